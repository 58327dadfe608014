-- What deduplication compares: each distinct prompt, response and trajectory once, and again
-- where an evaluation asks it. Prompts that share a hint, a task, or their first turns must share a
-- split: of two conversations that begin alike one may hold the answer to the other. A prompt is
-- compared by what is asked: a long system prompt would make all that stand under it alike.
-- Personal data is looked for in screened_text, which has what comparing leaves out: every turn of
-- a prompt is trained on. Of a trajectory it has what the assistant and the user say; what tools
-- answer (file listings, customer records) is full of names and stays out. Where both are the same,
-- as of nearly all texts, it is null: words are most of the warehouse.
--
-- Texts are grouped by their keys and where they were said first, and only then fetched from there:
-- an aggregate over the words themselves would hold all of them in memory.
--
-- What new batches say again adds hints and sources to a text, and nothing else: an earlier batch said
-- it first.

{% set since = built_through() if is_incremental() else none %}
{% set feedback = [
    ('int_demonstrations_unioned', 'demonstration_id', {'prompt': 'prompt', 'response': 'response'}),
    ('int_ratings_unioned', 'rating_id', {'prompt': 'prompt', 'response': 'response'}),
    ('int_trajectories_unioned', 'trajectory_id', {'prompt': 'prompt', 'trajectory': 'steps'}),
    ('int_step_ratings_unioned', 'step_rating_id', {'prompt': 'prompt', 'trajectory': 'steps'}),
    ('int_evaluation_prompts_deduplicated', 'record_uid', {'prompt': 'prompt'})
] %}

with

keyed as not materialized (

    -- one row per text said, and per hint; `place` names it, and sorts as first_seen does
    {% for model, id, texts in feedback %}
    {% for role, name in texts.items() %}
    select
        '{{ role }}' as role,
        {{ name }}_key as text_key,
        {{ 'evaluation_set' if 'evaluation' in model else 'null' }} as evaluation_set,
        concat_ws(' ', first_seen, '{{ model }}', {{ id }}) as place,
        first_seen,
        {{ 'group_hint' if role == 'prompt' else 'null' }} as hint,
        source
    from {{ ref(model) }}
    {{ "where split_part(first_seen, ':', 1) > '" ~ since ~ "'" if since }}
    union all
    {% endfor %}
    {% endfor %}

    -- of an attempt also its task; and where the first user speaks only after the prompt, the
    -- opening goes on into the steps
    {% for hint, where in [
        ("'task ' || task_id", "true"),
        (opening('prompt', 'steps'), "not contains(prompt, '" ~ '"user"' ~ "')")
    ] %}
    select
        'prompt', prompt_key, null,
        concat_ws(' ', first_seen, 'int_trajectories_unioned', trajectory_id), first_seen,
        {{ hint }}, source
    from {{ ref('int_trajectories_unioned') }}
    where {{ where }} {{ "and split_part(first_seen, ':', 1) > '" ~ since ~ "'" if since }}
    union all
    {% endfor %}

    {% for role, name in [
        ('prompt', 'prompt'), ('response', 'response_a'), ('response', 'response_b')
    ] %}
    select
        '{{ role }}', {{ name }}_key, null,
        concat_ws(' ', first_seen, 'int_comparisons_unioned', judgement_id), first_seen,
        {{ 'group_hint' if role == 'prompt' else 'null' }}, source
    from {{ ref('int_comparisons_deduplicated') }}
    {{ "where batch_id > '" ~ since ~ "'" if since }}
    {{ 'union all' if not loop.last }}
    {% endfor %}

),

firsts as materialized (

    select
        role,
        text_key,
        evaluation_set is not null as is_evaluation,
        min(evaluation_set) as evaluation_set,
        min(place) as place,
        min(first_seen) as first_seen,
        min(hint) as first_hint,
        max(hint) as last_hint,
        min(source) as first_source,
        max(source) as last_source

    from keyed

    group by role, text_key, evaluation_set is not null

),

shared as (

    -- those few that have several hints or sources; a list for each text would take long
    select
        role,
        text_key,
        evaluation_set is not null as is_evaluation,
        list(distinct hint) as hints,
        list(distinct source) as sources

    from keyed

    where
        (role, text_key) in (
            select (role, text_key) from firsts
            where first_hint <> last_hint or first_source <> last_source
        )

    group by role, text_key, evaluation_set is not null

),

worded as (

    -- the conversation is for what is asked, spoken or opened with; of a response nobody wants it
    {% for model, id, texts in feedback %}
    {% for role, name in texts.items() %}
    select
        concat_ws(' ', first_seen, '{{ model }}', {{ id }}) as place,
        '{{ role }}' as role,
        {{ name }}_key as text_key,
        {{ name }}_text as words,
        {{ name if role != 'response' else 'null' }} as conversation
    from {{ ref(model) }}
    {{ "where split_part(first_seen, ':', 1) > '" ~ since ~ "'" if since }}
    union all
    {% endfor %}
    {% endfor %}

    -- most texts stand in comparisons, which are read once for all three; and most of those repeat
    -- the words of one before
    select
        place,
        unnest(
            [
                {
                    'role': 'prompt', 'text_key': prompt_key, 'words': prompt_text,
                    'conversation': prompt
                },
                {
                    'role': 'response', 'text_key': response_a_key, 'words': response_a_text,
                    'conversation': null
                },
                {
                    'role': 'response',
                    'text_key': if(response_a_key = response_b_key, null, response_b_key),
                    'words': response_b_text, 'conversation': null
                }
            ],
            recursive := true
        )
    from (
        select
            *,
            concat_ws(' ', first_seen, 'int_comparisons_unioned', judgement_id) as place

        from {{ ref('int_comparisons_unioned') }}

        where place in (select place from firsts) {{ "and batch_id > '" ~ since ~ "'" if since }}
    )

),

found as (

    select
        concat_ws(
            ':', firsts.role, if(firsts.is_evaluation, 'evaluation', 'training'), firsts.text_key
        ) as text_id,
        firsts.text_key,
        firsts.role,
        firsts.is_evaluation,
        firsts.evaluation_set,
        if(
            firsts.role = 'prompt', {{ asked_text('worded.conversation', 'worded.words') }}, worded.words
        ) as text,
        nullif(
            case firsts.role
                when 'prompt' then coalesce(worded.words, '')
                when 'trajectory'
                    then coalesce({{ turns_text('worded.conversation', ['assistant', 'user']) }}, '')
            end,
            text
        ) as screened_text,
        coalesce(shared.hints, [firsts.first_hint]) as hints,
        if(firsts.role = 'prompt', {{ opening('worded.conversation') }}, null) as opening,
        coalesce(shared.sources, [firsts.first_source]) as sources,
        firsts.first_seen

    from worded
    inner join firsts
        on worded.place = firsts.place
        and worded.text_key = firsts.text_key
        and worded.role = firsts.role
    left join shared
        on firsts.role = shared.role
        and firsts.text_key = shared.text_key
        and firsts.is_evaluation = shared.is_evaluation

)

{% if since %}
, changed as (

    select
        before.text_id,
        least(before.evaluation_set, found.evaluation_set) as evaluation_set,  -- passes over null
        list_distinct(before.group_hints || list_filter(found.hints, lambda hint: hint is not null))
            as all_hints,
        list_distinct(before.sources || found.sources) as all_sources

    from {{ this }} as before
    inner join found on before.text_id = found.text_id

    where
        least(before.evaluation_set, found.evaluation_set) < before.evaluation_set
        or len(all_hints) > len(before.group_hints)
        or len(all_sources) > len(before.sources)

)
{% endif %}

select
    text_id,
    text_key,
    role,
    is_evaluation,
    evaluation_set,
    text,
    screened_text,
    hash(text, screened_text) as print,  -- whoever looked at a text knows by it that it is the same
    list_sort(list_distinct(list_filter(hints || [opening], lambda hint: hint is not null)))
        as group_hints,
    list_sort(sources) as sources,
    first_seen

from found

{% if since %}
anti join {{ this }} using (text_id)

union all by name

select
    before.* replace (
        changed.evaluation_set as evaluation_set,
        list_sort(changed.all_hints) as group_hints,
        list_sort(changed.all_sources) as sources
    )

from {{ this }} as before
inner join changed on before.text_id = changed.text_id
{% endif %}
