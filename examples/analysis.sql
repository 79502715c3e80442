-- Ten questions that people ask of the data, over the tables and marts. Answers on the demo's data: analysis.md.
-- All of them: iot query --file examples/analysis.sql; one: add --name least_healthy_devices; for programs: add --json.

-- ## least_healthy_devices
-- Which devices are least healthy, and since when do they fail?
select
    device_id,
    site,
    round(avg(health_pct), 1) as health_pct,
    sum(silent_windows)::bigint as silent_windows,
    sum(windows)::bigint as windows,
    min(first_failing_window) as failing_since
from device_health_daily
group by device_id, site
having count(*) filter (where is_failing) > 0
order by health_pct, device_id
limit 10;

-- ## rejected_share_by_site
-- What share of the readings was of no use, by site, and is it getting worse?
select
    site,
    event_date,
    readings,
    rejected,
    round(100.0 * rejected / nullif(readings + rejected, 0), 2) as rejected_pct,
    round(rejected_pct - lag(rejected_pct) over (partition by site order by event_date), 2) as change
from site_daily
order by site, event_date;

-- ## longest_anomalies
-- Which anomalies lasted longest, over midnight too, and how far off were the values?
select
    device_id,
    site,
    metric,
    started_at,
    round(duration_seconds / 60, 1) as minutes,
    anomalies.readings,
    round(peak_score, 1) as peak_score,
    peak_value
from anomalies
left join devices using (device_id)
order by duration_seconds desc, device_id, metric, started_at
limit 10;

-- ## p95_by_week
-- How long do events take at the 95th percentile, by week, and how far apart are the days of the week?
select
    week_start,
    device_type,
    days,
    events,
    round(p95, 1) as p95_ms,
    round(max_daily_p95 - min_daily_p95, 1) as days_apart_ms
from duration_p95_weekly
order by week_start, p95_ms desc;

-- ## warmest_hours
-- At what hour of the day (UTC) is each site warmest, when coolest, and how far apart are they?
with hours as (
    select
        coalesce(site, 'unknown') as site,
        extract(hour from window_start) as hour,
        avg(temperature) as temperature,
        avg(humidity) as humidity
    from environment_windows
    where temperature is not null
    group by all
)

select
    site,
    arg_max(hour, temperature) as warmest_hour,
    round(max(temperature), 1) as warmest_c,
    arg_min(hour, temperature) as coolest_hour,
    round(min(temperature), 1) as coolest_c,
    round(max(temperature) - min(temperature), 1) as apart_c,
    round(avg(humidity), 1) as humidity_pct
from hours
group by site
order by apart_c desc, site;

-- ## energy_by_site
-- How much energy did each site use, and what is that for each device that measures it?
with metered as (
    select coalesce(site, 'unknown') as site, event_date, count(distinct device_id) as meters
    from environment_windows
    where energy is not null
    group by all
)

select
    site,
    event_date,
    round(energy / 1000, 2) as energy_kwh,
    meters,
    round(energy / 1000 / meters, 2) as kwh_a_meter
from site_daily
inner join metered using (site, event_date)
order by site, event_date;

-- ## late_readings
-- How many readings came late, of which contract, and from how many devices?
select
    contract,
    count(*) as readings,
    count(*) filter (where is_late) as late,
    round(100.0 * late / readings, 2) as late_pct,
    count(distinct device_id) filter (where is_late) as devices
from silver_readings
group by contract
order by contract;

-- ## unreadable_messages
-- Why could messages not be read, how often, and what did one look like?
select
    reason,
    count(*) as messages,
    count(distinct topic) as topics,
    min(detail) as for_example
from bronze_quarantine
group by reason
order by messages desc, reason;

-- ## silent_devices
-- Which registered devices have never said anything usable?
select
    device_id,
    contract,
    site,
    installed_at,
    rejected
from devices
where last_event_date is null and source <> 'unregistered'
order by device_id;

-- ## busiest_hours
-- In which hour did most events of each kind come, and did they take longer than they usually do?
with hours as (
    select
        device_type,
        date_trunc('hour', window_start) as hour,
        sum(events)::bigint as events,
        sum(avg_event_duration_ms * events) as ms
    from gold_device_type_windows
    group by all
)

select
    device_type,
    hour,
    events,
    round(ms / events, 1) as avg_ms,
    round(sum(ms) over kind / sum(events) over kind, 1) as usual_ms
from hours
window kind as (partition by device_type)
qualify row_number() over (partition by device_type order by events desc, hour) = 1
order by events desc, device_type;
