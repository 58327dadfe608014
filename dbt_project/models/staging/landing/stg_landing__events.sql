-- Which copy of its event each landed record is. Rows of one event are the event delivered again,
-- whatever file or source they came through; the first to arrive is the original. Later batches
-- change nothing of earlier rows, so only theirs are made.
--
-- An event is what its record says, word for word. A vote sent again with its sides swapped says
-- something else, but is the same event: one annotator prefers the same response at the same moment.

{% set since = built_through() if is_incremental() else none %}
{% set vote %}
    case
        when annotator_id is null or occurred_at is null then content_sha256
        else
            concat_ws(
                '|',
                annotator_id,
                occurred_at,
                prompt_key,
                least(response_a_key, response_b_key),
                greatest(response_a_key, response_b_key),
                case choice when 'a' then response_a_key when 'b' then response_b_key end
            )
    end
{% endset %}

{% set tables = [
    'demonstrations', 'comparisons', 'rankings', 'ratings', 'critiques', 'rubric_scores',
    'trajectories', 'step_ratings', 'interactions', 'evaluation_prompts'
] %}

with

arrived as materialized (

    {% for table in tables %}
    select
        '{{ table }}' as landed_as,
        record_uid,
        batch_id,
        line_no,
        md5_number({{ vote if table == 'comparisons' else 'content_sha256' }}) as event
    from {{ source('landing', table) }}
    {{ "where batch_id > '" ~ since ~ "'" if since }}
    {{ 'union all' if not loop.last }}
    {% endfor %}

),

{% if since %}
before as (

    select landed_as, record_uid, batch_id, line_no, event
    from {{ this }}
    where event in (select event from arrived) and batch_id <= '{{ since }}'

),
{% endif %}

every as (

    select *, true as is_new from arrived
    {% if since %}
    union all
    select *, false from before
    {% endif %}

),

repeated as (

    -- only where an event stands twice is there anything to number
    select landed_as, event from every
    group by landed_as, event
    having count(*) > 1

),

numbered as (

    select
        *,
        row_number() over copies as copy_number,
        first_value(record_uid) over copies as original_uid

    from every
    semi join repeated using (landed_as, event)

    window copies as (partition by landed_as, event order by batch_id, line_no, record_uid)

)

select
    arrived.landed_as,
    arrived.record_uid,
    arrived.batch_id,
    arrived.line_no,
    arrived.event,
    coalesce(numbered.copy_number, 1) as copy_number,
    coalesce(numbered.original_uid, arrived.record_uid) as original_uid

from arrived
left join numbered
    on arrived.record_uid = numbered.record_uid
    and arrived.landed_as = numbered.landed_as
    and numbered.is_new
