-- Feedback that says nothing a mart could hold: a criticism in words alone, a served turn that
-- nobody reacted to. It stays in landing; only a copy of it is a duplicate.

with

unused as (

    select *, 'the critique has no corrected response' as why
    from {{ ref('stg_landing__critiques') }}
    where corrected_response is null

    union all by name

    select *, 'nobody rated or edited the served response' as why
    from {{ ref('stg_landing__interactions') }}
    where thumbs is null and edited_response is null

)

select
    record_uid,
    copy_number,
    kind,
    source,
    if(copy_number > 1, 'duplicate_of', 'unused') as status,
    if(copy_number > 1, 'the record was delivered before', why) as reason_excluded,
    if(copy_number > 1, original_uid, null) as pointer

from unused
