# Each of these works as the first command on a fresh machine that has git, python3 (3.10 to 3.13) and make.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# Notebooks, and then files of tests, run two at a time; each of them uses the threads that this leaves it.
WORKERS ?= 2

.PHONY: demo test test-slow style lab docs docs-serve site notebooks bench figures clean

$(STAMP): settings.ini pyproject.toml setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check uv
	$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python -e '.[train,lab,app,serve,docs,dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/bonefrac demo --out runs/demo

# The notebooks, then pytest, which runs the tutorials in JupyterLab and also asks whether package, README and outputs are in step with the notebooks
test: $(STAMP)
	$(BIN)/nbdev-test --n-workers $(WORKERS) --skip-folder-re '^[_.]|tutorials'
	$(BIN)/python -m pytest tests -m 'not slow' -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# What is slow and rarely breaks
test-slow: $(STAMP)
	$(BIN)/python -m pytest tests -m slow -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# How the notebooks read, in numbers: density, line lengths, prose, words
style: $(STAMP)
	$(BIN)/python tools/style.py
	$(BIN)/ruff check bonefrac tools tests

lab: $(STAMP)
	$(BIN)/jupyter lab nbs/tutorials/first_steps.ipynb

# Run the notebooks and store their outputs, export the package, render README.md
notebooks: $(STAMP)
	$(BIN)/nbdev-export
	$(BIN)/nbdev-test --save --n-workers $(WORKERS) --skip-folder-re '^[_.]|tutorials'
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace nbs/tutorials/*.ipynb
	$(BIN)/nbdev-clean
	$(BIN)/python tools/readme.py

# The site in _docs: by Quarto where it is on PATH, else by Sphinx, from the same pages
docs: $(STAMP)
	@if command -v quarto >/dev/null; then $(BIN)/nbdev-docs; else $(MAKE) --no-print-directory site; fi

site:
	PYTHONWARNINGS=ignore $(BIN)/python -c 'from nbdev.serve import proc_nbs; proc_nbs()'
	$(BIN)/python -m sphinx -q -E -c docs -d _proc/.doctrees _proc _proc/_docs
	rm -rf _docs && mv _proc/_docs _docs

docs-serve: docs
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _docs 8000

# bonefrac beside its peers: loading, training, prediction, start, growth; about 25 minutes, on real images with BONEFRAC_DATA
bench: $(STAMP)
	cd bench && ../$(BIN)/python speed.py

# What else notebooks and README quote, measured anew; takes about an hour and wants BONEFRAC_DATA
figures: $(STAMP)
	cd bench && for script in audit_growth audit_peers audit_proof audit_families interval_coverage label_errors service; do ../$(BIN)/python $$script.py || exit 1; done

clean:
	rm -rf build dist *.egg-info _docs _proc runs .bench
