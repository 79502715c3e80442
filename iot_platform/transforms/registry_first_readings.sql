-- The first 31 distinct event times of each device in order of arrival: what its cadence is inferred from.
-- Reads its own rows and what Bronze has brought since; the result is the same as from all of Bronze at once.
with arrived as (
    select
        b.*,
        row_number() over (
            partition by b.device_id, b.event_time
            order by b.ingest_seq, b.kafka_timestamp, b.topic, b.kafka_partition, b.kafka_offset, b.metric
        ) as copy
    from bronze_readings b
    -- A device whose 31 are complete takes no more: a busy day costs no sort.
    where not exists (
        select 1 from registry_first_readings f where f.device_id = b.device_id and f.arrival_rank = 31
    )
),

known as (
    select device_id, max(arrival_rank) as arrival_rank
    from registry_first_readings
    group by device_id
),

fresh as (
    select
        a.*,
        coalesce(k.arrival_rank, 0) + row_number() over (
            partition by a.device_id
            order by a.ingest_seq, a.kafka_timestamp, a.topic, a.kafka_partition, a.kafka_offset
        ) as arrival_rank
    from arrived a
    left join known k on k.device_id = a.device_id
    left join registry_first_readings f on f.device_id = a.device_id and f.event_time = a.event_time
    where a.copy = 1 and f.device_id is null
),

firsts as (
    select device_id, contract, device_type, site, zone, state, firmware, event_time, arrival_rank
    from registry_first_readings
    union all
    select device_id, contract, device_type, site, zone, state, firmware, event_time, arrival_rank
    from fresh
    where arrival_rank <= 31
),

seen as (
    select
        device_id,
        min(first_event_time) as first_event_time,
        max(last_event_time) as last_event_time,
        bool_and(only_replayed) as only_replayed
    from (
        select device_id, first_event_time, last_event_time, only_replayed
        from registry_first_readings
        where arrival_rank = 1
        union all
        select device_id, min(event_time), max(event_time), bool_and(replayed)
        from bronze_readings
        group by device_id
    ) spans
    group by device_id
)

select
    f.device_id,
    o.contract,
    f.device_type,
    f.site,
    f.zone,
    f.state,
    f.firmware,
    f.event_time,
    f.arrival_rank,
    s.first_event_time,
    s.last_event_time,
    s.only_replayed
from firsts f
join firsts o on o.device_id = f.device_id and o.arrival_rank = 1
join seen s on s.device_id = f.device_id
