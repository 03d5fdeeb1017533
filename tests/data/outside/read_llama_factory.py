"""Read an export by LLaMA-Factory's own parser and converter: run by an interpreter that has it. Prints JSON."""

import json
import os
import sys
import types
from importlib.util import find_spec
from pathlib import Path

os.environ["DISABLE_VERSION_CHECK"] = "1"
package = types.ModuleType("llamafactory.data")  # without its models, templates and audio
package.__path__ = [str(Path(find_spec("llamafactory").origin).parent / "data")]
sys.modules["llamafactory.data"] = package

from datasets import load_dataset  # noqa: E402  (the package must stand in first)
from llamafactory.data.converter import get_dataset_converter  # noqa: E402
from llamafactory.data.parser import get_dataset_list  # noqa: E402

folder = sys.argv[1]
(told,) = get_dataset_list(["thyme"], folder)
convert = get_dataset_converter(told.formatting, told, types.SimpleNamespace(media_dir=folder))
table = load_dataset("json", data_files=os.path.join(folder, told.dataset_name), split="train", cache_dir=sys.argv[2])
sys.stdout.write("\n" + json.dumps([convert(row) for row in table]) + "\n")
