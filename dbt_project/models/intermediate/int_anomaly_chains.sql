-- Gold cuts a run of anomalous readings at midnight, since it makes one date at a time. Here the pieces meet again: by the
-- rule that made them (transforms/gold_anomaly_events.sql), less than 15 minutes or 3 cadences between two readings.
with pieces as (
    select * from {{ ref('stg_gold__anomaly_events') }}
),

devices as (
    select * from {{ ref('stg_registry__devices') }}
),

beside as (
    select
        pieces.*,
        -- What the registry says of other dates than these bears on those alone.
        greatest(900e0, 3 * coalesce(devices.cadence_seconds, 0e0)) as merge_seconds,
        lag(event_date) over series as date_before,
        lag(ended_at) over series as ended_before,
        lag(continues) over series as continued_before
    from pieces
    left join devices
        on devices.device_id = pieces.device_id
            and devices.installed_at < pieces.event_date + interval '1 day'
            and (devices.retired_at is null or devices.retired_at >= pieces.event_date)
    window series as (partition by pieces.device_id, metric, detector order by started_at)
)

select
    device_id,
    metric,
    detector,
    event_date,
    started_at,
    ended_at,
    readings,
    peak_score,
    peak_value,
    continues,
    count(*) filter (
        where not coalesce(
            continued_before and date_before < event_date
                and started_at < ended_before + to_microseconds((merge_seconds * 1000000)::bigint),
            false
        )
    ) over (partition by device_id, metric, detector order by started_at) as chain
from beside
