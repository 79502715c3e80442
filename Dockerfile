# One image for every service of docker-compose.yml: the clone as `make setup` makes it, with the bundled Java.
# Build: docker build -t iot-platform:0.1.0 .
FROM python:3.11.13-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PATH=/app/.venv/bin:$PATH \
    IOT_HOME=/var/lib/iot \
    IOT_JAR_CACHE=/opt/iot/jars \
    IOT_JAVA=bundled \
    DAGSTER_HOME=/var/lib/iot/dagster

RUN useradd --uid 10001 --create-home iot
WORKDIR /app
COPY . .
# Packages by requirements.lock and jars by their lock, each by its hash; the caches stay outside of the image.
# dbt writes beside its project. A new volume at /var/lib/iot takes over what lies there, its owner too.
RUN --mount=type=cache,target=/root/.cache UV_LINK_MODE=copy python deploy/setup.py \
    && chown -R iot:iot /var/lib/iot dbt_project
USER iot

VOLUME /var/lib/iot
ENTRYPOINT []
CMD ["iot", "--help"]
