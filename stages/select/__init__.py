"""Stage two: multiple-instance learning selects the mask that is the object.

`run` lists the steps: `batches` lays bags and images out, `feature_source` says what the selector sees of photographs,
`learn` trains `network.model` under the `seed_guard`, `selection` chooses a mask for every point and writes it. The
paper's modules are pure functions in `method`; training on features that are computed once is `frozen`.
"""
