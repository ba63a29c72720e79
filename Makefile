# Each of these works as the first command on a fresh machine that has git, python3 (3.10 to 3.13) and make.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# Notebooks, and then files of tests, run two at a time; each of them uses the threads that this leaves it.
WORKERS ?= 2

.PHONY: demo test lab docs notebooks bench figures clean

$(STAMP): settings.ini pyproject.toml setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check uv
	$(BIN)/uv pip install -q --python $(BIN)/python -e '.[train,lab,app,serve,docs,dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/bonefrac demo --out runs/demo

# The notebooks, then pytest, which also asks whether package, README and outputs are in step with the notebooks
test: $(STAMP)
	$(BIN)/nbdev-test --n-workers $(WORKERS)
	$(BIN)/python -m pytest tests -n $(WORKERS) --dist loadfile

lab: $(STAMP)
	$(BIN)/jupyter lab nbs/index.ipynb

# Run the notebooks and store their outputs, export the package, render README.md
notebooks: $(STAMP)
	$(BIN)/nbdev-export
	$(BIN)/nbdev-test --save --n-workers $(WORKERS)
	$(BIN)/nbdev-clean
	$(BIN)/python tools/readme.py

docs: $(STAMP)
	@command -v quarto >/dev/null || { echo 'make docs needs Quarto on PATH: https://quarto.org/docs/get-started'; exit 2; }
	$(BIN)/nbdev-docs

# bonefrac beside its peers: loading, training, prediction, start, growth; about 25 minutes, on real films with BONEFRAC_DATA
bench: $(STAMP)
	cd bench && ../$(BIN)/python speed.py

# What else notebooks and README quote, measured anew; takes about an hour and wants BONEFRAC_DATA
figures: $(STAMP)
	cd bench && for script in audit_growth audit_peers audit_proof audit_families interval_coverage label_errors service; do ../$(BIN)/python $$script.py || exit 1; done

clean:
	rm -rf build dist *.egg-info _docs _proc runs .bench
