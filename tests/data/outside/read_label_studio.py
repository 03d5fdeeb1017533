"""Read an export by Label Studio's own library: run by an interpreter that has it. Prints what came of it as JSON."""

import json
import sys
from pathlib import Path

from label_studio_sdk.converter import Converter
from label_studio_sdk.label_interface import LabelInterface

folder, out = Path(sys.argv[1]), Path(sys.argv[2])
config = (folder / "labelling_interface.xml").read_text()
interface = LabelInterface(config)
interface.validate()
tasks = json.loads((folder / "tasks.json").read_text())
valid = [interface.validate_annotation(made) for task in tasks for made in task["annotations"]]
converter = Converter(config, project_dir=None, download_resources=False)
tasks_file = str(folder / "tasks.json")
converter.convert_to_coco(tasks_file, str(out / "coco"), output_image_dir=str(out / "images"), is_dir=False)
converter.convert_to_json_min(tasks_file, str(out / "min"), is_dir=False)
told = {
    "valid": valid,
    "coco": json.loads((out / "coco" / "result.json").read_text()),
    "min": json.loads((out / "min" / "result.json").read_text()),
}
sys.stdout.write("\n" + json.dumps(told) + "\n")
