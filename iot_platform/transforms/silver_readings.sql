-- Usable readings of one date: one row per (event_id, metric), scored against the device's recent past.
-- Reads Bronze of the date and of the day before, so that the past of a reading crosses midnight.
with repeated as (
    select event_date, event_id, metric
    from bronze_readings
    group by event_date, event_id, metric
    having count(*) > 1
),

-- Only the few repeated readings are ordered by arrival; every one but the first is a duplicate, whatever the first is.
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

-- The last 100 usable readings of the day before are all that a reading of this date can look back on.
ranked as (
    select
        b.device_id, b.metric, b.event_time,
        row_number() over (
            partition by b.device_id, b.metric order by b.event_time desc, b.event_id desc
        ) as age
    from bronze_readings b
    cross join params p
    left join registry_metrics m on m.contract = b.contract and m.metric = b.metric
    where b.event_date < p.event_date
        and abs(b.value) <= 1.7976931348623157e308
        and (m.min_value is null or b.value >= m.min_value)
        and (m.max_value is null or b.value <= m.max_value)
        and not exists (
            select 1 from later l
            where l.event_date = b.event_date and l.topic = b.topic and l.kafka_partition = b.kafka_partition
                and l.kafka_offset = b.kafka_offset and l.kafka_timestamp = b.kafka_timestamp and l.metric = b.metric
        )
),

past as (
    select device_id, metric, min(event_time) as since
    from ranked
    where age <= 100
    group by device_id, metric
),

-- `abs(value) <= largest double` is false for NaN and infinity and null for null: such readings are not usable.
-- What enters a mean is held within 1e150, or the square of one absurd value would overflow.
usable as (
    select
        b.event_date, b.topic, b.kafka_partition, b.kafka_offset, b.kafka_timestamp, b.metric,
        b.device_id, b.event_time, b.event_id,
        m.unit as declared_unit,
        greatest(least(b.value, 1e150), -1e150) as x
    from bronze_readings b
    cross join params p
    left join registry_metrics m on m.contract = b.contract and m.metric = b.metric
    left join past on past.device_id = b.device_id and past.metric = b.metric
    where (b.event_date = p.event_date or b.event_time >= past.since)
        and abs(b.value) <= 1.7976931348623157e308
        and (m.min_value is null or b.value >= m.min_value)
        and (m.max_value is null or b.value <= m.max_value)
        and not exists (
            select 1 from later l
            where l.event_date = b.event_date and l.topic = b.topic and l.kafka_partition = b.kafka_partition
                and l.kafka_offset = b.kafka_offset and l.kafka_timestamp = b.kafka_timestamp and l.metric = b.metric
        )
),

-- Few columns go through the window, which sorts and holds them; the others join again by the message's coordinates
-- and arrival, since a topic that was made anew counts its offsets anew.
compared as (
    select
        u.*,
        avg(x) over recent as recent_mean,
        stddev_samp(x) over recent as spread,
        count(*) over recent as recent_count
    from usable u
    window recent as (
        partition by device_id, metric order by event_time, event_id rows between 100 preceding and 1 preceding
    )
),

-- Below `noise`, a difference or a spread is floating-point noise.
judged as (
    select
        b.*,
        c.declared_unit,
        c.x,
        c.recent_mean,
        c.spread,
        c.recent_count,
        abs(c.x - c.recent_mean) as distance,
        1e-9 * greatest(1e0, abs(c.recent_mean)) as noise
    from bronze_readings b
    cross join params p
    join compared c
        on c.event_date = b.event_date and c.topic = b.topic and c.kafka_partition = b.kafka_partition
        and c.kafka_offset = b.kafka_offset and c.kafka_timestamp = b.kafka_timestamp and c.metric = b.metric
    where b.event_date = p.event_date
)

select
    j.contract,
    j.contract_version,
    j.event_id,
    j.device_id,
    coalesce(j.device_type, d.device_type) as device_type,
    j.metric,
    j.value,
    coalesce(j.unit, j.declared_unit) as unit,
    j.status,
    j.event_duration_ms,
    coalesce(j.site, d.site) as site,
    coalesce(j.zone, d.zone) as zone,
    coalesce(j.state, d.state) as state,
    coalesce(j.firmware, d.firmware) as firmware,
    j.event_time,
    j.topic,
    j.kafka_partition,
    j.kafka_offset,
    j.kafka_timestamp,
    j.ingest_seq,
    j.is_late,
    j.replayed,
    j.source,
    j.recent_mean,
    case when j.spread <= j.noise then 0e0 else j.spread end as recent_std,
    j.recent_count,
    case
        when j.recent_count < 30 then null
        when j.distance <= j.noise then 0e0
        when j.spread <= j.noise then null
        else (j.x - j.recent_mean) / j.spread
    end as z_score,
    case
        when j.recent_count < 30 then false
        when j.distance <= j.noise then false
        when j.spread <= j.noise then true
        else j.distance / j.spread > 3
    end as is_anomaly,
    p.processed_at,
    p.pipeline_version,
    j.event_date
from judged j
cross join params p
-- An inferred device was inferred from such readings: only what somebody declared says more than the message, and
-- only for the dates that it is declared for.
left join registry_devices d
    on d.device_id = j.device_id
        and d.source = 'declared'
        and d.installed_at < p.day_end
        and (d.retired_at is null or d.retired_at >= p.day_start)
