"""The pages of the wire contracts: what a message of each looks like, and what is done with it."""

from __future__ import annotations

from html import escape

from iot_platform.contracts.publish import published_schemas
from iot_platform.contracts.tables import QUARANTINE_REASONS
from iot_platform.contracts.wire import CONTRACTS, Metric, WireContract
from iot_platform.docs_site.page import Page, code, link, table
from iot_platform.topics import Topic

PLACE = "contracts"
Topics = dict[str, Topic]


def schema_file(contract: WireContract) -> str:
    return f"{contract.name}.v{contract.version}.json"


def schema_files() -> dict[str, str]:
    """The published JSON Schemas, by their place in the site."""
    return {f"{PLACE}/{name}": text for name, text in published_schemas().items()}


def contract_page(contract: WireContract, topics: Topics) -> Page:
    """Fields, metrics, topic, schema."""
    page = f"{PLACE}/{contract.name}.html"
    fields = [
        (code(one.name), escape(one.json), escape(one.unit), "required" if one.required else "", escape(one.description),
         link(one.column, f"tables/bronze/readings.html#{one.column}", page) if one.column else "")
        for one in contract.fields
    ]  # fmt: skip
    topic = topics[contract.name]
    parts = [
        f"<h1>{escape(contract.name)} v{contract.version}</h1>",
        f"<p>{escape(contract.description)}</p>",
        f"<p>Topic {link(topic.name, f'tables/kafka/{topic.name}.html', page)}, {topic.partitions} partitions, kept "
        f"{topic.retention_days} days. The message's key is the device id. "
        f"{link('JSON Schema', f'{PLACE}/{schema_file(contract)}', page)}.</p>",
        "<h2>Fields</h2>",
        table(("field", "type", "unit", "", "meaning", "lands in"), fields),
        "<h2>Metrics</h2>",
        table(("metric", "unit", "smallest", "largest", "meaning"), [_metric(one) for one in contract.metrics])
        if contract.metrics
        else "<p>Any: nobody has to declare what this contract carries.</p>",
        "<p>A value beyond its bounds is a well-formed message whose reading is rejected later, as "
        f"{code('out_of_range')}. A metric that nobody declared is accepted, has no bounds, and a check lists it.</p>",
    ]
    return Page(page, f"{contract.name} v{contract.version}", "\n".join(parts))


def _metric(metric: Metric) -> tuple[str, ...]:
    bounds = ("" if bound is None else f"{bound:g}" for bound in (metric.min_value, metric.max_value))
    return code(metric.field or metric.name), escape(metric.unit), *bounds, escape(metric.description)


def contract_list(topics: Topics) -> Page:
    """All contracts, how a message names its own, and the reasons for quarantine."""
    page = f"{PLACE}/index.html"
    rows = [
        (link(f"{one.name} v{one.version}", f"{PLACE}/{one.name}.html", page), code(topics[one.name].name),
         escape(one.description), link("JSON Schema", f"{PLACE}/{schema_file(one)}", page))
        for one in CONTRACTS.values()
    ]  # fmt: skip
    content = (
        "<h1>Contracts</h1>"
        f"<p>What devices send. A message names its contract in the headers {code('contract')} and "
        f"{code('contract_version')}; without them its topic decides. Times are ISO 8601 with zone, or epoch seconds, "
        "milliseconds or microseconds. Unknown fields are kept.</p>"
        + table(("contract", "topic", "what it is", ""), rows)
        + "<h2>Why a message is quarantined</h2><p>"
        + ", ".join(map(code, QUARANTINE_REASONS))
        + f". It is kept whole, with the reason, in {link('bronze/quarantine', 'tables/bronze/quarantine.html', page)}.</p>"
    )
    return Page(page, "Contracts", content)
