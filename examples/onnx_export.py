# %% [markdown]
# # Export a network to ONNX and run it in onnxruntime
#
# A run of the command line is exported to one graph that takes rows in the units of the source: standardisation and
# scale are part of it. Needs `pip install 'hfnumba[export]' onnxruntime`.

# %%
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from sklearn.datasets import load_digits

import hfnumba as hf

folder = tempfile.TemporaryDirectory()


def hfnumba(*words):
    """Run the command hfnumba in the folder of this example."""
    command = [sys.executable, "-m", "hfnumba", *words]
    subprocess.run(command, cwd=folder.name, check=True, capture_output=True)


# %%
hfnumba("data", "build", "digits", "--out", "digits.zarr")
hfnumba("train", "digits.zarr", "--hidden", "50", "--max-iterations", "10", "--run", "run")
hfnumba("export", "run", "--to", "onnx", "-o", "digits.onnx")

# %%
session = onnxruntime.InferenceSession(Path(folder.name) / "digits.onnx", providers=["CPUExecutionProvider"])
for kind, values in (("input", session.get_inputs()), ("output", session.get_outputs())):
    for one in values:
        print(f"{kind} {one.name}: {one.type}, shape {one.shape}")
print("metadata:", ", ".join(sorted(session.get_modelmeta().custom_metadata_map)))

# %% [markdown]
# The outputs are those of hfnumba itself, up to rounding in float32.

# %%
X, y = load_digits(return_X_y=True)
(probabilities,) = session.run(["probabilities"], {"X": X.astype(np.float32)})
model = hf.load_model(Path(folder.name) / "run")
difference = np.abs(probabilities - model.predict_proba(X)).max()
print(f"largest difference of a probability below 1e-5: {difference < 1e-5}")
print(f"share of all digits that onnxruntime gets right: {np.mean(probabilities.argmax(axis=1) == y):.3f}")

folder.cleanup()
