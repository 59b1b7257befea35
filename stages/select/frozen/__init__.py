"""Screening: the selector's heads alone, on features that are computed once per bag store and never trained.

Two kinds of features, each behind a provider (`stages.select.network.roi_features`); `source` chooses:

``backbone`` (`map_features`, `cache`): the frozen backbone sees every photograph once. Of its pyramid a map of `grid` x
`grid` cells is kept (the mean of all levels, float16, memory-mapped). The feature of a box is the mean over `bins` x
`bins` parts of it, read from a summed-area table, so any box has one: those of the bags, random negatives, parts. Of
the twenty scaled positives the boxes of 1 % and 15 % go through the layers, and the other embeddings are interpolated
between these by the length of their sides. A sample of the negatives goes through the layers and stands for all of
them.

``sam`` (`mask_features`): a store made with ``--features`` holds SAM's image feature of every mask, and no photograph
is opened. Scaled positives are interpolated between the masks of their bag by the overlap of their boxes. There are no
background boxes; the negatives are the bag's smaller masks that overlap the selected one too little.

Scores, mining and losses are those of the full training. There is no mirroring, and the schedule is short:
`config.frozen` has its own.
"""
