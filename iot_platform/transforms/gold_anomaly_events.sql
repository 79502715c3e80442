-- Anomalous readings merged into events: one row per run of a device and metric, cut at UTC midnight.
-- Two readings belong to one run when less than 15 minutes (or 3 cadences, where longer) lie between them. A cadence is
-- that of a device in service on the date: what the registry says of other dates bears on those alone.
with anomalous as (
    select
        s.device_id,
        s.metric,
        s.event_time,
        s.event_id,
        s.value,
        abs(s.z_score) as score,
        abs(s.value - s.recent_mean) as distance,
        greatest(900e0, 3 * coalesce(d.cadence_seconds, 0e0)) as merge_seconds,
        lag(s.event_time) over (
            partition by s.device_id, s.metric order by s.event_time, s.event_id
        ) as previous
    from silver_readings s
    cross join params p
    left join registry_devices d
        on d.device_id = s.device_id
            and d.installed_at < p.day_end
            and (d.retired_at is null or d.retired_at >= p.day_start)
    where s.is_anomaly
),

numbered as (
    select
        a.*,
        sum(case when event_time < previous + merge_seconds * interval '1' second then 0 else 1 end) over (
            partition by device_id, metric order by event_time, event_id
            rows between unbounded preceding and current row
        ) as run
    from anomalous a
),

-- The peak is the largest score. After a past without spread there is none: such a reading counts when no other does.
peaked as (
    select
        n.*,
        row_number() over (
            partition by device_id, metric, run
            order by coalesce(score, -1e0) desc, distance desc, event_time, event_id
        ) as rank_in_run
    from numbered n
),

events as (
    select
        device_id,
        metric,
        min(event_time) as started_at,
        max(event_time) as ended_at,
        count(*) as readings,
        max(score) as peak_score,
        max(case when rank_in_run = 1 then value end) as peak_value,
        max(merge_seconds) as merge_seconds
    from peaked
    group by device_id, metric, run
)

select
    e.device_id,
    e.metric,
    'recent_z_score' as detector,
    e.started_at,
    e.ended_at,
    e.readings,
    e.peak_score,
    e.peak_value,
    e.ended_at + e.merge_seconds * interval '1' second > p.day_end as continues,
    p.processed_at,
    p.pipeline_version,
    p.event_date
from events e
cross join params p
