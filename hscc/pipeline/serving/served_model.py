"""The network as MLflow serves it: code kept beside the ONNX file ("models from code"), no pickle.

MLflow runs this file from the copy that was registered. A row of the input is either ``image``, a JPEG, PNG, DICOM or
NumPy file (base64 in JSON), or ``pixels``, rows of grey levels from 0 to 255.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from hscc.errors import ArtifactError, DataError, HSCCError
from hscc.export.card import NOTICE
from hscc.pipeline.serving.decisions import answer_table
from hscc.pipeline.serving.network import Network
from hscc.pipeline.serving.reading import Picture, decode_picture
from hscc.timing.runtimes import ENGINE, ONNXRUNTIME, RUNTIMES

NETWORK, CLASSES, SHA256 = "model", "classes", "deployed_sha256"  # names in the registered model
ENGINE_FILE, ENGINE_SHA256, RUNTIME = "engine", "engine_sha256", "runtime"
IMAGE, PIXELS = "image", "pixels"
AUTO = "auto"


class Refusal(MlflowException):
    """Refuses a picture in one sentence, which MLflow's server would put behind the whole request."""

    def serialize_as_json(self) -> str:
        """Body of the response, with the sentence as it was raised."""
        self.message = self.args[0]
        return str(super().serialize_as_json())  # type: ignore[no-untyped-call]


class ServedNetwork(PythonModel):
    """Answers one row per picture: its class, the probability of each class, and the notice."""

    def load_context(self, context: Any) -> None:
        """Open the file for the engine where it can run, else the ONNX file, if it is the one that was registered."""
        known = context.model_config
        runtime = known.get(RUNTIME, AUTO)
        if runtime == ENGINE or (runtime == AUTO and known.get(ENGINE_SHA256) and RUNTIMES[ENGINE].available):
            file, sha256 = ENGINE_FILE, ENGINE_SHA256
        else:
            file, sha256 = NETWORK, SHA256
        if file not in context.artifacts:
            raise ArtifactError("this version holds no file for the engine; load it with the runtime onnxruntime.")
        onnx_runtime = runtime if runtime not in (AUTO, ENGINE) else ONNXRUNTIME
        self._network = Network(Path(context.artifacts[file]), known[CLASSES], known[sha256], runtime=onnx_runtime)

    # The signature has the types: MLflow would read type hints here as a schema of its own.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Classify pictures.

        Parameters
        ----------
        context : mlflow.pyfunc.PythonModelContext
            Not used after loading.
        model_input : pandas.DataFrame
            Column ``image`` (bytes of a file, or their base64) or ``pixels`` (rows of grey levels).
        params : dict, optional
            Not used.

        Returns
        -------
        pandas.DataFrame
            ``class``, one column per class with its probability, and ``notice``. Of a segmentation: ``mask``, a PNG
            file of the network's size, one column per class with its share of the pixels, and ``notice``. Of several
            labels: ``labels``, those of a probability of at least one half with a bar between them, and one column per
            label; of values one column per value.

        Raises
        ------
        Refusal
            With the sentence that names the row, if a picture cannot be read or is plainly not what the network was
            made for.
        """
        try:
            rows = enumerate(model_input.to_dict("records"))
            pictures = [_picture(row, f"row {index}", self._network.window) for index, row in rows]
            if not pictures:  # MLflow drops columns that it does not know, and the rows with them
                raise DataError("the request has neither image nor pixels; send one of them.")
            for picture in pictures:
                self._network.refuse_implausible(picture)
            found = self._network.probabilities([picture.pixels for picture in pictures])
        except HSCCError as error:
            raise Refusal.invalid_parameter_value(str(error)) from error
        answer = answer_table(found, self._network.classes, self._network.kind)
        answer["notice"] = NOTICE
        return answer


def _picture(row: dict[str, Any], name: str, window: tuple[float, float] | None) -> Picture:
    pixels, image = row.get(PIXELS), row.get(IMAGE)
    if pixels is not None:
        return Picture(name, _levels(pixels, name), 0.0)
    if isinstance(image, str):
        try:
            image = base64.b64decode(image, validate=True)
        except binascii.Error as error:
            raise DataError(f"{name} holds an image that is not base64; encode the file's bytes.") from error
    if not isinstance(image, bytes):
        raise DataError(f"{name} has neither image nor pixels; send one of them.")
    return decode_picture(image, name, window)


def _levels(pixels: Any, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    try:
        levels = np.asarray([list(line) for line in pixels], dtype=np.int64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} holds pixels that are not a table of numbers; send rows of equal length.") from error
    if levels.ndim != 2 or levels.size == 0 or levels.min() < 0 or levels.max() > 255:
        raise DataError(f"{name} holds pixels outside of 0 to 255 or no rows of them; send grey levels.")
    return levels.astype(np.uint8)


set_model(ServedNetwork())
