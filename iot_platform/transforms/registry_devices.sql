-- Every known device: the declared ones, and those inferred from their first readings. All columns but `changes`.
with seen as (
    select device_id, last_event_time, only_replayed
    from registry_first_readings
    where arrival_rank = 1
),

-- A replay declares its devices as retired the moment they were installed, and leaves the end to the readings: the last
-- one while all came from replays, none once the device reports by itself. Any other end was declared, and stands.
declared as (
    select
        d.*,
        case
            when d.retired_at > d.installed_at or s.device_id is null then d.retired_at
            when d.retired_at is not null and s.only_replayed then s.last_event_time
        end as until
    from declared_devices d
    left join seen s on s.device_id = d.device_id
),

undeclared as (
    select f.*
    from registry_first_readings f
    where not exists (select 1 from declared_devices d where d.device_id = f.device_id)
),

ordered as (
    select
        device_id,
        event_time,
        lag(event_time) over (partition by device_id order by event_time) as previous
    from undeclared
),

-- A gap in seconds by parts, since no one function for it is known to all engines: days, hours, minutes and whole seconds of the
-- difference of whole seconds, and the fractions of both, a millionfold so that they count as whole seconds.
parts as (
    select
        device_id,
        date_trunc('second', event_time) - date_trunc('second', previous) as whole,
        (event_time - date_trunc('second', event_time)) * 1000000 as fraction,
        (previous - date_trunc('second', previous)) * 1000000 as previous_fraction
    from ordered
    where previous is not null
),

gaps as (
    select
        device_id,
        extract(day from whole) * 86400e0 + extract(hour from whole) * 3600e0
            + extract(minute from whole) * 60e0 + extract(second from whole)
            + (
                extract(day from fraction) * 86400e0 + extract(hour from fraction) * 3600e0
                + extract(minute from fraction) * 60e0 + extract(second from fraction)
                - extract(day from previous_fraction) * 86400e0 - extract(hour from previous_fraction) * 3600e0
                - extract(minute from previous_fraction) * 60e0 - extract(second from previous_fraction)
            ) / 1000000 as seconds
    from parts
),

cadences as (
    select device_id, percentile_cont(0.5) within group (order by seconds) as cadence_seconds
    from gaps
    group by device_id
),

-- Attributes as the first reading that has them says.
inferred as (
    select
        device_id,
        min_by(contract, arrival_rank) as contract,
        min_by(device_type, arrival_rank) filter (where device_type is not null) as device_type,
        min_by(site, arrival_rank) filter (where site is not null) as site,
        min_by(zone, arrival_rank) filter (where zone is not null) as zone,
        min_by(state, arrival_rank) filter (where state is not null) as state,
        min_by(firmware, arrival_rank) filter (where firmware is not null) as firmware,
        min(first_event_time) as installed_at,
        -- A device known only from a replay of history is not expected to go on.
        max(case when only_replayed then last_event_time end) as retired_at
    from undeclared
    group by device_id
)

select
    device_id, contract, device_type, site, zone, state, firmware,
    cadence_seconds, installed_at, until as retired_at, 'declared' as source
from declared
union all
select
    i.device_id, i.contract, i.device_type, i.site, i.zone, i.state, i.firmware,
    c.cadence_seconds, i.installed_at, i.retired_at, 'inferred' as source
from inferred i
left join cadences c on c.device_id = i.device_id
