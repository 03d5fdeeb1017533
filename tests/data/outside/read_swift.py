"""Read an export by ms-swift itself: run by an interpreter that has it. Prints what it made of each row as JSON."""

import json
import sys
from types import SimpleNamespace

from swift.dataset import load_dataset
from swift.loss_scale.base import LossScale
from swift.template.base import Template
from swift.template.utils import ContextType

folder = sys.argv[1]
template = Template.__new__(Template)  # of which only the joining of messages is wanted; a model is not at hand
template.template_backend = "swift"
template._preprocess_tool_call = template._preprocess_standalone_tools = lambda inputs: None
table, _ = load_dataset([folder + "/train.jsonl"])
told = []
for row in table:
    asked = [message for message in row["messages"] if message["role"] != "system"]
    inputs = SimpleNamespace(messages=[{k: v for k, v in message.items() if v is not None} for message in asked])
    template._swift_prepare_inputs(inputs)
    content = inputs.messages[1]["content"]
    content = content if isinstance(content, list) else [content]
    inputs.messages[1]["content"] = content
    pieces, scales = LossScale("default")([content], [ContextType.RESPONSE], inputs.messages)
    images = [image if isinstance(image, str) else image["path"] for image in row["images"] or []]
    told.append({"pieces": pieces, "scales": scales, "images": images})
sys.stdout.write("\n" + json.dumps(told) + "\n")
