-- What a device sent on a date, over all its metrics. A device stands at one site and zone a date: those of most readings.
with summaries as (
    select * from {{ ref('stg_gold__daily_summary') }}
)

select
    device_id,
    event_date,
    first(device_type order by readings desc, metric) filter (where device_type is not null) as device_type,
    first(site order by readings desc, metric) filter (where site is not null) as site,
    first(zone order by readings desc, metric) filter (where zone is not null) as zone,
    sum(readings)::bigint as readings,
    sum(anomalies)::bigint as anomalies,
    sum(duplicates + null_values + not_finite + out_of_range)::bigint as rejected
from summaries
group by device_id, event_date
