-- A device's day: one row per (device, metric) that had a reading, usable or rejected.
with today as (
    select
        s.device_id,
        s.metric,
        max(s.device_type) as device_type,
        max(s.site) as site,
        max(s.zone) as zone,
        count(*) as readings,
        avg(greatest(least(s.value, 1e150), -1e150)) as avg,
        min(s.value) as min,
        max(s.value) as max,
        percentile_cont(0.5) within group (order by s.value) as p50,
        percentile_cont(0.95) within group (order by s.value) as p95,
        percentile_cont(0.99) within group (order by s.value) as p99,
        count(*) filter (where s.is_anomaly) as anomalies
    from silver_readings s
    cross join params p
    where s.event_date = p.event_date
    group by s.device_id, s.metric
),

-- Over the readings of seven days: a day with many readings weighs more than one with few.
week as (
    select device_id, metric, avg(greatest(least(value, 1e150), -1e150)) as avg_7d
    from silver_readings
    group by device_id, metric
),

refused as (
    select
        device_id,
        metric,
        max(device_type) as device_type,
        max(site) as site,
        max(zone) as zone,
        count(*) filter (where reason = 'duplicate') as duplicates,
        count(*) filter (where reason = 'null_value') as null_values,
        count(*) filter (where reason = 'not_finite') as not_finite,
        count(*) filter (where reason = 'out_of_range') as out_of_range
    from silver_rejected_readings
    group by device_id, metric
),

seen as (
    select device_id, metric from today
    union
    select device_id, metric from refused
)

select
    seen.device_id,
    seen.metric,
    coalesce(t.device_type, r.device_type) as device_type,
    coalesce(t.site, r.site) as site,
    coalesce(t.zone, r.zone) as zone,
    coalesce(t.readings, 0) as readings,
    t.avg,
    t.min,
    t.max,
    t.p50,
    t.p95,
    t.p99,
    coalesce(t.anomalies, 0) as anomalies,
    coalesce(r.duplicates, 0) as duplicates,
    coalesce(r.null_values, 0) as null_values,
    coalesce(r.not_finite, 0) as not_finite,
    coalesce(r.out_of_range, 0) as out_of_range,
    w.avg_7d,
    p.processed_at,
    p.pipeline_version,
    p.event_date
from seen
cross join params p
left join today t on t.device_id = seen.device_id and t.metric = seen.metric
left join refused r on r.device_id = seen.device_id and r.metric = seen.metric
left join week w on w.device_id = seen.device_id and w.metric = seen.metric
