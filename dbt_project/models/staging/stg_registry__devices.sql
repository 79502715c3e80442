-- Written by `python -m iot_platform.marts.staging` from iot_platform/contracts/tables.py; change it there.
{{ config(materialized='table') }}

with source as (
    select * from {{ source('registry', 'devices') }}
),

renamed as (
    select
        device_id,
        contract,
        device_type,
        site,
        zone,
        state,
        firmware,
        cadence_seconds,
        installed_at,
        retired_at,
        source
    from source
)

select * from renamed
