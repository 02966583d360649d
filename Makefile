VENV ?= .venv
PY = $(VENV)/bin/python

$(VENV)/installed: pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(PY) -m pip install -q -c constraints.txt -e '.[test]'
	touch $@

demo: $(VENV)/installed
	$(VENV)/bin/rankscope demo

test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile

.PHONY: demo test
