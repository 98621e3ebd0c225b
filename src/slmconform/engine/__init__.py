"""From checks to outcomes: registry, plan, run, verdict."""
