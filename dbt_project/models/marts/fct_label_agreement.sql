select
    concat_ws(':', kind, domain, guideline_version) as label_agreement_id,
    kind,
    level,
    domain,
    guideline_version,
    item_count,
    label_count,
    round(agreement_frac, 6) as agreement_frac,
    round(alpha, 6) as alpha,
    round(alpha_low, 6) as alpha_low,
    round(alpha_high, 6) as alpha_high

from {{ ref('stg_quality__label_agreement') }}
