"""Write what the checks of the extras run on: tiny random networks, questions and rollouts, into a folder."""

import json
import sys
from pathlib import Path

import tokenizers
import torch
import transformers

folder = Path(sys.argv[1])
torch.manual_seed(0)

alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
vocabulary = {token: number for number, token in enumerate(["</s>", "<s>", *alphabet])}
bytes_as_tokens = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
bytes_as_tokens.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
bytes_as_tokens.decoder = tokenizers.decoders.ByteLevel()
tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=bytes_as_tokens, bos_token="<s>", eos_token="</s>"
)
for name in ("language", "held_out"):
    tokenizer.save_pretrained(folder / name)
    transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=64,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            bos_token_id=1,
            eos_token_id=0,
        )
    ).save_pretrained(folder / name)

transformers.ResNetForImageClassification(
    transformers.ResNetConfig(
        num_channels=1,
        embedding_size=16,
        hidden_sizes=[32, 64],
        depths=[2, 2],
        layer_type="basic",
        downsample_in_first_stage=False,
        num_labels=4,
        image_size=8,
    )
).save_pretrained(folder / "images")

questions = [
    {"goal": f"What follows {n}?", "sol1": str(n + 1), "sol2": str(n - 1), "label": 0} for n in range(8)
]
(folder / "questions.jsonl").write_text("\n".join(map(json.dumps, questions)))
(folder / "tasks").mkdir()
(folder / "tasks" / "follows.yaml").write_text(f"""
task: follows
dataset_path: json
dataset_kwargs:
  data_files: {folder / "questions.jsonl"}
output_type: multiple_choice
test_split: train
doc_to_text: "{{{{goal}}}}"
doc_to_target: label
doc_to_choice: "{{{{[sol1, sol2]}}}}"
metric_list:
  - metric: acc
""")

# What a served model answered that needs thought for long sums alone.
sums = [" + ".join(map(str, range(number, number + (6 if number % 2 else 2)))) for number in range(80)]
head = {
    "model": "served",
    "control": "thinking_token_budget",
    "budgets": [0, 512],
    "samples": 1,
    "seed": 0,
    "verifier": "integer",
    "sampling": {},
    "prompts": [[{"role": "user", "content": text}] for text in sums],
    "answers": ["0"] * len(sums),
}
rollouts = [
    {
        "prompt": number,
        "budget": budget,
        "sample": 0,
        "correct": budget > 0 or number % 2 == 0,
        "tokens": budget,
        "seconds": 1,
    }
    for number in range(len(sums))
    for budget in (0, 512)
]
lines = "".join(json.dumps(line) + "\n" for line in (head, *rollouts))
(folder / "rollouts.jsonl").write_text(lines, encoding="utf-8")
