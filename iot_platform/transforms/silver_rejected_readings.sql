-- Readings of one date that are well-formed and not usable, each with one reason. With silver_readings they are all of Bronze.
with repeated as (
    select b.event_date, b.event_id, b.metric
    from bronze_readings b
    cross join params p
    where b.event_date = p.event_date
    group by b.event_date, b.event_id, b.metric
    having count(*) > 1
),

-- Every arrival of a reading but the first is a duplicate, whatever the fate of the first.
later as (
    select event_date, topic, kafka_partition, kafka_offset, kafka_timestamp, metric
    from (
        select
            b.event_date, b.topic, b.kafka_partition, b.kafka_offset, b.kafka_timestamp, b.metric,
            row_number() over (
                partition by b.event_date, b.event_id, b.metric
                order by b.kafka_timestamp, b.topic, b.kafka_partition, b.kafka_offset
            ) as arrival
        from bronze_readings b
        join repeated r
            on r.event_date = b.event_date and r.event_id = b.event_id and r.metric = b.metric
    ) arrivals
    where arrival > 1
),

judged as (
    select
        b.*,
        case
            when l.topic is not null then 'duplicate'
            when b.value is null then 'null_value'
            when not (abs(b.value) <= 1.7976931348623157e308) then 'not_finite'
            when b.value < m.min_value or b.value > m.max_value then 'out_of_range'
        end as reason
    from bronze_readings b
    left join later l
        on l.event_date = b.event_date and l.topic = b.topic and l.kafka_partition = b.kafka_partition
        and l.kafka_offset = b.kafka_offset and l.kafka_timestamp = b.kafka_timestamp and l.metric = b.metric
    left join registry_metrics m on m.contract = b.contract and m.metric = b.metric
)

select
    j.contract,
    j.contract_version,
    j.event_id,
    j.device_id,
    j.device_type,
    j.metric,
    j.value,
    j.unit,
    j.status,
    j.event_duration_ms,
    j.site,
    j.zone,
    j.state,
    j.firmware,
    j.event_time,
    j.topic,
    j.kafka_partition,
    j.kafka_offset,
    j.kafka_timestamp,
    j.ingest_seq,
    j.is_late,
    j.replayed,
    j.source,
    j.reason,
    p.processed_at,
    p.pipeline_version,
    j.event_date
from judged j
cross join params p
where j.event_date = p.event_date and j.reason is not null
