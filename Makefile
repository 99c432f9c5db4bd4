.PHONY: demo test test-all check serve

# Starts the service, prints the plan of "draw a flamingo", streams it to out/flamingo.svg.
demo:
	@scripts/install server
	@.venv/bin/python scripts/demo

test:
	@scripts/install dev
	@scripts/test

test-all:
	@scripts/install dev
	@scripts/test --all

check:
	@scripts/install dev
	@scripts/check

serve:
	@scripts/install server
	@.venv/bin/hitree serve
