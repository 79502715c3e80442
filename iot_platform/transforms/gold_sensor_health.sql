-- Share of the expected readings that came: one row per (registered device, window), silent devices and silent days too.
-- A window is 5 minutes, or the smallest whole divisor of a day that a slower device's cadence fits in. A device slower than
-- a day has no rows: no window of one day can tell whether it fails.
with digits as (
    select n from (values (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) as d (n)
),

-- 1 ... 288: the windows that a day may have.
numbers as (
    select n
    from (
        select a.n + 10 * b.n + 100 * c.n + 1 as n
        from digits a cross join digits b cross join digits c
    ) counted
    where n <= 288
),

cadences as (
    select d.cadence_seconds, cast(min(86400 / n.n) as int) as window_seconds
    from (
        select distinct cadence_seconds from registry_devices where cadence_seconds > 0 and cadence_seconds <= 86400
    ) d
    join numbers n on 86400 % n.n = 0 and 86400 / n.n >= d.cadence_seconds
    group by d.cadence_seconds
),

registered as (
    select d.*, c.window_seconds
    from registry_devices d
    join cadences c on c.cadence_seconds = d.cadence_seconds
),

-- Only windows that the contract's data has passed, and that lie wholly between installation and retirement.
windows as (
    select
        r.*,
        n.n as window_number,
        p.day_start + (n.n - 1) * r.window_seconds * interval '1' second as window_start,
        p.day_start + n.n * r.window_seconds * interval '1' second as window_end
    from registered r
    cross join params p
    join numbers n on n.n * r.window_seconds <= 86400
),

expected as (
    select w.*, w.window_seconds / w.cadence_seconds as expected
    from windows w
    cross join params p
    join clocks c on c.contract = w.contract
    where w.window_end <= least(c.as_of, p.day_end)
        and w.window_start >= w.installed_at
        and (w.retired_at is null or w.window_end <= w.retired_at)
),

-- A message with three metrics is one sign of life: event times are counted, not readings.
alive as (
    select
        device_id,
        event_time,
        extract(hour from event_time) * 3600 + extract(minute from event_time) * 60
            + cast(floor(extract(second from event_time)) as int) as second_of_day
    from silver_readings
    group by device_id, event_time
),

counted as (
    select a.device_id, floor(a.second_of_day / r.window_seconds) + 1 as window_number, count(*) as actual
    from alive a
    join registered r on r.device_id = a.device_id
    group by a.device_id, floor(a.second_of_day / r.window_seconds) + 1
),

shares as (
    select
        e.*,
        coalesce(c.actual, 0) as actual,
        least(100e0, 100e0 * coalesce(c.actual, 0) / e.expected) as health_pct
    from expected e
    left join counted c on c.device_id = e.device_id and c.window_number = e.window_number
)

select
    s.device_id,
    s.window_start,
    s.window_seconds,
    s.contract,
    s.device_type,
    s.site,
    s.zone,
    s.expected,
    s.actual,
    s.health_pct,
    s.health_pct < 90 as is_failing,
    p.processed_at,
    p.pipeline_version,
    p.event_date
from shares s
cross join params p
