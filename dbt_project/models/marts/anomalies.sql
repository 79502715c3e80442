{{ config(materialized='incremental', incremental_strategy='by_span') }}

-- All events are looked at, and those written that touch a date that moved (macros/spans.sql): an event that goes on
-- over midnight is one row, under the date on which it began.
select
    device_id,
    metric,
    detector,
    min(event_date) as event_date,
    min(started_at) as started_at,
    max(ended_at) as ended_at,
    max(event_date) as end_date,
    epoch(max(ended_at) - min(started_at)) as duration_seconds,
    sum(readings)::bigint as readings,
    max(peak_score) as peak_score,
    -- The peak is the largest score; where the past had no spread there is none, and it counts when no other does.
    first(peak_value order by peak_score desc nulls last, started_at) as peak_value,
    last(continues order by started_at) as may_continue
from {{ ref('int_anomaly_chains') }}
group by device_id, metric, detector, chain
