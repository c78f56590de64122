"""Load a result with plain transformers, count its parameters, and let it write: `python loads.py FOLDER`."""

import importlib.util
import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = Path(sys.argv[1])
assert importlib.util.find_spec("prunepolicy") is None, "this interpreter has the package that it should lack"
model, told = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
problems = {what: names for what, names in told.items() if names}
assert not problems, problems
counted = sum(parameter.numel() for parameter in model.parameters())
reported = json.loads((folder / "prune_report.json").read_text(encoding="utf-8"))["after"]["cost"]["params"]
assert counted == reported, f"{counted:,} parameters, and the report says {reported:,}"
prompt = AutoTokenizer.from_pretrained(folder)("The sea", return_tensors="pt")
with torch.inference_mode():
    written = model.generate(**prompt, max_new_tokens=8, do_sample=False)
assert written.shape[1] > prompt["input_ids"].shape[1]
print(f"{folder} loads in plain transformers: {counted:,} parameters, as reported; it writes.")
