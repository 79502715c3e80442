{{ config(materialized='incremental') }}

-- A percentile of a week cannot be made from the percentiles of its days, so it is made from the week's events, by the
-- same rule as the day's (transforms/gold_duration_p95.sql): types with enough events, those beyond 3 sigma of the whole
-- week left out, exact. What enters mean and spread is held within 1e150, or one absurd duration would make them infinite.
-- Sums are taken in order of the values: however the rows are spread over files and threads, the last bit is the same.
with events as (
    select
        date_trunc('week', event_date)::date as week_start,
        device_type,
        event_date,
        event_duration_ms,
        least(event_duration_ms, 1e150) as x
    from {{ ref('stg_silver__device_events') }}
    where {{ moved('event_date') }}
),

measured as (
    select
        week_start,
        device_type,
        count(*) as events,
        count(distinct event_date) as days,
        avg(x order by x) as mean,
        stddev_pop(x order by x) as std
    from events
    group by week_start, device_type
    having count(*) >= 500
),

-- A spread that is only rounding noise is no spread: it would throw out every event of equal durations.
figures as (
    select * replace (case when std <= 1e-12 * mean then 0e0 else std end as std) from measured
),

-- The last factor keeps an event that lies at exactly 3 sigma, whichever way its mean was rounded.
kept as (
    select
        week_start,
        device_type,
        count(*) as kept,
        percentile_cont(0.95) within group (order by event_duration_ms) as p95
    from events
    inner join figures using (week_start, device_type)
    where std = 0 or abs(x - mean) <= 3 * std * (1 + 1e-12)
    group by week_start, device_type
),

daily as (
    select
        date_trunc('week', event_date)::date as week_start,
        device_type,
        count(*) as days_with_p95,
        min(p95) as min_daily_p95,
        max(p95) as max_daily_p95
    from {{ ref('stg_gold__duration_p95') }}
    where {{ moved('event_date') }}
    group by date_trunc('week', event_date), device_type
)

select
    week_start,
    device_type,
    days,
    events,
    events - kept as excluded,
    mean,
    std,
    p95,
    coalesce(days_with_p95, 0) as days_with_p95,
    min_daily_p95,
    max_daily_p95
from figures
inner join kept using (week_start, device_type)
left join daily using (week_start, device_type)
