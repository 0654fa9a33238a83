"""The tasks that the pipeline knows: what networks answer, how that is learnt, scored and compared.

================ ============================== ================================= ======================
``data.task``    what is known of an image      answer                            module
================ ============================== ================================= ======================
classification   one class                      (N, classes) logits of a softmax  ``classification``
segmentation     a mask                         (N, classes, H, W) logits         ``segmentation``
multilabel       several labels, each or not    (N, labels) logits of sigmoids    ``multilabel``
regression       one or several numbers         (N, values), in the table's units ``regression``
================ ============================== ================================= ======================

A task has two sides, each a class of its own. `hscc.pipeline.tasks.base.Task` is what training, calibration and
compression ask: targets, loss, scores on validation. `hscc.pipeline.tasks.assessment.base.Assessment` is what
evaluation asks: the evidence of each test image that the statistics resample. They are apart so that an edit of the
statistics does not make a training stale.

To add a task:

1. name it in ``data.task`` (`hscc.pipeline.data_spec.DataSpec`), with what the spec must say of its targets, its
   scores in `hscc.pipeline.known_names.TASK_SCORES`, and how images are counted and split in
   `hscc.pipeline.data.targets`;
2. write a module here with a subclass of ``Task`` and enter it in `hscc.pipeline.tasks.registry`;
3. write a module in ``assessment/`` with a subclass of ``Assessment`` and enter it in its ``registry``.

``whole_images`` has what all but segmentation share, ``targets`` on both sides what multilabel and regression do.

Stages ask the task and know none by name.
"""
