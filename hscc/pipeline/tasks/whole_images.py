"""What tasks have in common that take whole images and answer one number for each of ``data.classes``."""

from __future__ import annotations

from hscc.pipeline.data.loading import augmentation_of
from hscc.pipeline.tasks.base import Task, TrainingViews
from hscc.training.images import EVALUATION_BATCH, Split
from hscc.training.views import Epochs, Views


class WholeImages(Task):
    """Networks answer (N, classes)."""

    batch = EVALUATION_BATCH
    keeps_answers = True

    @property
    def answer_shape(self) -> tuple[int, ...]:
        """See `Task`; one number for each of ``data.classes``."""
        return (len(self.params.data.classes),)

    def training(self, train: Split) -> TrainingViews:
        """See `Task`; images of the sizes of ``train.sizes``."""
        settings = self.params.train
        augmentation = augmentation_of(self.params.data)
        return Views(
            train, settings.batch_size, settings.seed, augmentation, sizes=settings.sizes, epochs=settings.epochs
        )

    def views(self, train: Split, batch_size: int, seed: int) -> Epochs:
        """See `Task`."""
        return Views(train, batch_size, seed, augmentation_of(self.params.data))
