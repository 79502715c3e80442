-- Of a date that was checked several times the newest result counts; how often it was, and failed, is kept beside it. A check
-- of a whole table stands under the date on which it was evaluated.
with results as (
    select *, coalesce(event_date, evaluated_at::date) as checked_date
    from {{ ref('stg_ops__check_results') }}
)

select
    asset,
    check_name,
    checked_date as event_date,
    event_date is null as is_whole_table,
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
    count(*) over day as evaluations,
    count(*) filter (where not passed) over day as failed_evaluations
from results
window day as (partition by asset, check_name, checked_date)
qualify row_number() over (
    partition by asset, check_name, checked_date order by evaluated_at desc, event_id desc, evaluation_id desc
) = 1
