-- Weeks are of dates, not of rows: a date on which nothing was checked does not stretch the seven.
select
    asset,
    check_name,
    event_date,
    is_whole_table,
    evaluated_at,
    run_id,
    passed,
    severity,
    is_blocking,
    figure,
    unit,
    warn_at,
    fail_at,
    description,
    evaluations,
    failed_evaluations,
    100e0 * (evaluations - failed_evaluations) / evaluations as pass_rate,
    100e0 * count(*) filter (where passed) over week / count(*) over week as pass_rate_7d,
    avg(figure) over week as figure_avg_7d,
    -- What is new: this date against the dates before it.
    figure - avg(figure) over before as figure_change_7d
from {{ ref('int_check_dates') }}
window
    week as (
        partition by asset, check_name order by event_date
        range between interval 6 days preceding and current row
    ),
    before as (
        partition by asset, check_name order by event_date
        range between interval 7 days preceding and interval 1 day preceding
    )
