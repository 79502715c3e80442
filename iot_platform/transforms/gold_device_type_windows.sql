-- Device events in tumbling windows of 1 minute: one row per (device type, window).
-- A device event has one reading, so that a row of Silver is an event.
with windows as (
    select
        device_type,
        date_trunc('minute', event_time) as window_start,
        count(*) as events,
        avg(least(event_duration_ms, 1e150)) as avg_event_duration_ms,
        min(event_duration_ms) as min_event_duration_ms,
        max(event_duration_ms) as max_event_duration_ms,
        avg(greatest(least(value, 1e150), -1e150)) as avg_value
    from silver_readings
    where contract = 'device_event' and event_duration_ms is not null
    group by device_type, date_trunc('minute', event_time)
)

select w.*, p.processed_at, p.pipeline_version, p.event_date
from windows w
cross join params p
