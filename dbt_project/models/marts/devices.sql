with registry as (
    select * from {{ ref('stg_registry__devices') }}
),

days as (
    select
        device_id,
        arg_max(device_type, event_date) as device_type,
        arg_max(site, event_date) as site,
        arg_max(zone, event_date) as zone,
        min(event_date) filter (where readings > 0) as first_event_date,
        max(event_date) filter (where readings > 0) as last_event_date,
        sum(readings)::bigint as readings,
        sum(anomalies)::bigint as anomalies,
        sum(rejected)::bigint as rejected
    from {{ ref('int_device_days') }}
    group by device_id
),

health as (
    select
        device_id,
        max(contract) as contract,
        max(event_date) as health_date,
        arg_max(health_pct, event_date) as health_pct,
        arg_max(is_failing, event_date) as is_failing
    from {{ ref('device_health_daily') }}
    group by device_id
),

-- One Gold table of a date may be ahead of another: who stands in a mart stands here too.
elsewhere as (
    select device_id from {{ ref('environment_windows') }}
    union
    select device_id from {{ ref('anomalies') }}
)

select
    device_id,
    -- A device with history that no registry knows any more is still a device: its rows elsewhere must lead somewhere.
    coalesce(registry.source, 'unregistered') as source,
    coalesce(registry.contract, health.contract) as contract,
    coalesce(registry.device_type, days.device_type) as device_type,
    coalesce(registry.site, days.site) as site,
    coalesce(registry.zone, days.zone) as zone,
    registry.state,
    registry.firmware,
    registry.cadence_seconds,
    registry.installed_at,
    registry.retired_at,
    days.first_event_date,
    days.last_event_date,
    coalesce(days.readings, 0) as readings,
    coalesce(days.anomalies, 0) as anomalies,
    coalesce(days.rejected, 0) as rejected,
    health.health_date,
    health.health_pct,
    health.is_failing
from registry
full join days using (device_id)
full join health using (device_id)
full join elsewhere using (device_id)
