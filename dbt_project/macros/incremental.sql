{#
Tables that take in new batches alone carry a stamp (their comment): the project's own files, and the
batches that they were built from. Where one of these is no longer what it was, because SQL was
edited, a batch was erased from, rewritten or lost, or an older one came in, `is_incremental()` is
false and the table is built in full. So it is after rows of a raw source, which may change what its
SQL makes of earlier rows.

`note_lake` writes down at the start of a run what there is now, for all models of the run.
#}

{% macro note_lake() -%}
    {%- set lake = env_var('FLYWHEEL_LAKE', '../var/lake') -%}
    {%- set project = invocation_args_dict.project_dir -%}
    create or replace table {{ target.schema }}.lake_now as
    select
        if(filename like '%.parquet', parse_filename(filename, true), null) as batch_id,
        filename || ' ' || size || ' ' || epoch_us(last_modified) as print,
        -- these two are not read by tables that take in new batches alone
        starts_with(filename, '{{ lake }}/raw/')
        and not regexp_matches(filename, '/(consents|trajectory_outcomes)/[^/]*$') as is_raw,
        (
            select
                md5(version() || string_agg(
                    replace(filename, '{{ project }}', '') || md5(content), ' ' order by filename
                ))
            from read_text([
                '{{ project }}/dbt_project.yml', '{{ project }}/models/**/*.sql',
                '{{ project }}/models/**/*.yml', '{{ project }}/macros/**/*.sql'
            ])
        ) as code

    -- the project's own file, so that there is a row where nothing has landed
    from read_blob([
        '{{ project }}/dbt_project.yml', '{{ lake }}/landing/**/*.parquet',
        '{{ lake }}/raw/**/*.parquet'
    ])

    where parse_filename(filename)[1] not in ('_', '.')
{%- endmacro %}


{# The newest batch in a table whose stamp still holds; none where it must be built in full. #}
{% macro built_through() -%}
    {%- if not execute or not adapter.get_relation(this.database, target.schema, 'lake_now') -%}
        {{ return(none) }}  {#- nothing was built yet: dbt compiles, or writes its pages #}
    {%- endif -%}
    {%- set found = run_query(
        "with stamps as (
            select comment ->> 'code' as code, comment ->> 'files' as files, comment ->> 'through' as through
            from duckdb_tables()
            where
                database_name = '" ~ this.database ~ "' and schema_name = '" ~ this.schema ~ "'
                and table_name = '" ~ this.identifier ~ "' and json_valid(comment)
        )

        select stamps.through
        from stamps
        inner join " ~ target.schema ~ ".lake_now as now on stamps.code = now.code
        group by stamps.through, stamps.files
        having
            stamps.files = md5(
                string_agg(now.print, ' ' order by now.print) filter (now.batch_id <= stamps.through)
            )
            and not bool_or(now.is_raw and now.batch_id > stamps.through)"
    ) -%}
    {{ return(found.rows[0][0] if found.rows | length else none) }}
{%- endmacro %}


{# dbt's own, asked by is_incremental() and by the materialization. #}
{% macro should_full_refresh() -%}
    {%- set asked = config.get('full_refresh') if config.get('full_refresh') is not none else flags.FULL_REFRESH -%}
    {%- if asked or not execute or model.config.materialized != 'incremental' -%}
        {{ return(asked) }}
    {%- endif -%}
    {{ return(built_through() is none) }}
{%- endmacro %}


{#
Stamp a table that was just built, where all tables that it was built from have the same stamp. Not
where a batch came in since the run began: some tables may hold it and others not. And a run without
rows (`--empty`, `--sample`) builds no table.
#}
{% macro stamp() -%}
    {%- set grows = config.get('materialized') in ('table', 'incremental') and 'after_dedup' not in model.tags -%}
    {%- if execute and grows and (invocation_args_dict.get('empty') or invocation_args_dict.get('sample')) -%}
        comment on table {{ this }} is null
    {%- elif execute and grows -%}
        {%- set lake = env_var('FLYWHEEL_LAKE', '../var/lake') -%}
        {%- set behind = tables_behind(model) | unique | list -%}
        {%- set found = run_query(
            "with present as (
                select
                    json_object(
                        'code', any_value(code), 'through', max(batch_id),
                        'files', md5(string_agg(print, ' ' order by print) filter (batch_id is not null))
                    )::varchar as stamp
                from " ~ target.schema ~ ".lake_now
            )

            select stamp
            from present
            where " ~ behind | length ~ " = (
                select count(*) from duckdb_tables()
                where database_name = '" ~ this.database ~ "' and comment = stamp
                    and schema_name || '.' || table_name in ('" ~ behind | join("', '") ~ "')
            ) and not exists (
                select 1 from glob(['" ~ lake ~ "/landing/**/*.parquet', '" ~ lake ~ "/raw/**/*.parquet'])
                where parse_filename(file)[1] not in ('_', '.') and parse_filename(file, true) > coalesce(
                    (select max(batch_id) from " ~ target.schema ~ ".lake_now), ''
                )
            )"
        ) -%}
        comment on table {{ this }} is {{ "'" ~ found.rows[0][0] ~ "'" if found.rows | length else 'null' }}
    {%- endif -%}
{%- endmacro %}


{# Tables that a model reads, itself or through views; what deduplication wrote counts as one. #}
{% macro tables_behind(node) -%}
    {%- set found = [] -%}
    {%- for id in node.depends_on.nodes -%}
        {%- if id in graph.sources -%}
            {%- if graph.sources[id].source_name != 'landing' -%}{%- do found.append(id) -%}{%- endif -%}
        {%- elif graph.nodes[id].config.materialized == 'view' -%}
            {%- do found.extend(tables_behind(graph.nodes[id])) -%}
        {%- else -%}
            {%- do found.append(graph.nodes[id].schema ~ '.' ~ graph.nodes[id].alias) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}
