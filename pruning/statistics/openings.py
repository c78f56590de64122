"""How texts of many kinds begin, so that a model goes on with one of that kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

RANDOM: Final = "random"
"""The kind whose texts begin with one token drawn from the vocabulary."""

OPENINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "story": (
        "Chapter One\n\nThe rain had not stopped for three days when",
        "The old woman closed the gate behind her and",
        '"You are late," said the captain, without looking up.',
    ),
    "essay": (
        "There is a common belief that people change only when",
        "In this essay I want to argue that cities",
        "What we call a habit is often",
    ),
    "encyclopedia": (
        "The beaver is a large rodent that",
        "The Treaty of 1648 was",
        "Photosynthesis is the process by which",
    ),
    "definitions": (
        "harbor (noun): a place on the coast where\n\nhasten (verb):",
        "Glossary\n\nAlgorithm: a finite sequence of steps\n\nArray:",
    ),
    "news": (
        "LONDON, Tuesday - The government said today that",
        "Local team wins the final after extra time\n\n",
    ),
    "letter": (
        "Dear Mrs. Carter,\n\nThank you for your letter of",
        "ModelSession: Meeting on Thursday\n\nHi all,\n\n",
    ),
    "quotations": (
        '"We know what we are, but know not what we may be."\n\n"The',
        "Proverbs of many lands:\n\n- A small leak",
    ),
    "poem": ("The Winter Sea\n\nGrey is the water and", "O wind that comes from western hills,\n"),
    "dialogue": (
        "ANNA: Have you seen the keys?\nTOM: No. Where did you\n",
        "Interviewer: How did you begin to write?\nAuthor:",
    ),
    "questions": (
        "Q: What is the capital of Norway?\nA: Oslo.\n\nQ:",
        "Frequently asked questions\n\nHow do I return a product?\n",
    ),
    "recipe": ("Ingredients:\n- 2 cups of flour\n- 1 egg\n", "How to repair a bicycle tyre\n\n1. Remove"),
    "science": (
        "Abstract. We study the effect of temperature on",
        "Theorem 2. Let G be a finite group and let",
        "Problem: A train travels 120 miles in 2 hours. Solution:",
    ),
    "legal": (
        "1. Definitions. In this Agreement, unless the context requires otherwise,",
        "THE SOFTWARE IS PROVIDED",
    ),
    "documentation": (
        "Installation\n============\n\nTo install the package, run::\n\n    pip install",
        "Parameters\n----------\nx : array_like\n    Input values.\naxis : int, optional\n",
        "# Getting started\n\nThis guide shows how to\n\n```bash\n",
        "NAME\n       grep - print lines that match patterns\n\nSYNOPSIS\n",
    ),
    "python": (
        'import os\nimport sys\n\n\ndef main():\n    """',
        "class Node:\n    def __init__(self, value):\n",
        "import numpy as np\n\n\ndef test_",
    ),
    "c": (
        "#include <stdio.h>\n#include <stdlib.h>\n\nstatic int",
        "/*\n * Copyright\n */\n#ifndef LIST_H\n#define LIST_H\n\nstruct",
        "template <typename T>\nclass Vector {\npublic:\n",
    ),
    "javascript": (
        "'use strict';\n\nconst fs = require('fs');\n\nfunction",
        "import React, { useState } from 'react';\n\nexport default function",
        "$(document).ready(function() {\n",
    ),
    "other code": (
        'package main\n\nimport (\n\t"fmt"\n)\n\nfunc',
        "public class Account {\n    private double balance;\n",
        "use std::collections::HashMap;\n\nfn main() {\n",
        "#!/bin/bash\nset -e\n\nfor file in",
        "SELECT name, count(*)\nFROM orders\nWHERE",
    ),
    "markup": (
        "<!DOCTYPE html>\n<html>\n<head>\n<title>",
        "body {\n  margin: 0;\n  font-family:",
        '<?xml version="1.0"?>\n<catalog>\n',
        "\\documentclass{article}\n\\begin{document}\n",
    ),
    "data": (
        '{\n  "users": [\n    {\n      "id": 1,\n      "name": "',
        "version: 2\nservices:\n  web:\n    image:",
        "date,product,units,price\n2021-01-04,chair,3,49.00\n",
    ),
    "tables": (
        "| Country | Capital | Population |\n|---|---|---|\n| France | Paris | 68 million |\n|",
        "Year  Sales  Profit\n2018    120      14\n2019",
    ),
    "lists": (
        "Ten ideas for a rainy day:\n\n1.",
        "- milk\n- bread\n- apples\n-",
        "Amsterdam\nAthens\nBerlin\n",
    ),
    "logs": (
        "2023-05-11 08:14:02 INFO  server started on port 8080\n2023-05-11 08:14:03",
        "Traceback (most recent call last):\n  File",
    ),
    "other languages": (
        "La ville est située au bord de",
        "El perro y el gato viven en",
        "Der Zug nach Hamburg fährt",
    ),
    RANDOM: (),
}
"""By kind. What a model doesn't know of it, it soon leaves for something that it knows."""

REQUESTS: Final = (
    "Explain in simple words why the sky is blue.",
    "Write a Python function that removes duplicates from a list, and explain it.",
    "I can't decide between two jobs. What should I consider?",
    "Summarize the main causes of the First World War.",
    "Write a short poem about a lighthouse.",
    "Give me a plan for learning to play the guitar in three months.",
    "What is 17 times 23? Show every step.",
    "Draft a polite email that asks for a refund.",
)
"""What a user asks a model that answers."""
