-- Usable readings in tumbling windows of 5 minutes: one row per (device, metric, window).
-- What enters a mean or a sum is held within 1e150, or one absurd value would make them infinite.
with readings as (
    select
        s.*,
        date_trunc('hour', event_time) + floor(extract(minute from event_time) / 5) * interval '5' minute as window_start,
        greatest(least(value, 1e150), -1e150) as x
    from silver_readings s
),

windows as (
    select
        device_id,
        metric,
        window_start,
        max(device_type) as device_type,
        max(site) as site,
        max(zone) as zone,
        count(*) as readings,
        avg(x) as avg,
        min(value) as min,
        max(value) as max,
        sum(x) as sum,
        percentile_cont(0.5) within group (order by value) as p50,
        percentile_cont(0.95) within group (order by value) as p95,
        percentile_cont(0.99) within group (order by value) as p99,
        count(*) filter (where is_anomaly) as anomalies,
        min(event_time) as first_event_time,
        max(event_time) as last_event_time
    from readings
    group by device_id, metric, window_start
)

select w.*, p.processed_at, p.pipeline_version, p.event_date
from windows w
cross join params p
