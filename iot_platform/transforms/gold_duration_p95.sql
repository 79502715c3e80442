-- 95th percentile of event durations after 3-sigma outliers are left out: one row per device type with 500 events or more.
-- Over the events themselves, never over averages of windows. A device event has one reading, so that a row is an event.
with events as (
    select device_type, event_duration_ms, least(event_duration_ms, 1e150) as x
    from silver_readings
    where contract = 'device_event' and event_duration_ms is not null
),

-- A spread that is only rounding noise is no spread: it would throw out every event of equal durations.
days as (
    select device_type, events, mean, case when std <= 1e-12 * mean then 0e0 else std end as std
    from (
        select device_type, count(*) as events, avg(x) as mean, stddev_pop(x) as std
        from events
        group by device_type
        having count(*) >= 500
    ) measured
),

-- The last factor keeps an event that lies at exactly 3 sigma, whichever way its mean was rounded.
kept as (
    select e.device_type, count(*) as kept, percentile_cont(0.95) within group (order by e.event_duration_ms) as p95
    from events e
    join days d on d.device_type = e.device_type
    where d.std = 0 or abs(e.x - d.mean) <= 3 * d.std * (1 + 1e-12)
    group by e.device_type
)

select
    d.device_type,
    d.events,
    d.events - k.kept as excluded,
    d.mean,
    d.std,
    k.p95,
    p.processed_at,
    p.pipeline_version,
    p.event_date
from days d
join kept k on k.device_type = d.device_type
cross join params p
