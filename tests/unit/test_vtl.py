from __future__ import annotations

from typing import Any

import pytest
from airspeed.operators import TemplateExecutionError

from asyncjobs.local.vtl import JavaMap, Parameters, render


def rendered(template: str, body: str = "", context: JavaMap | None = None, **places: dict[str, str]) -> str:
    return render(template, body=body, parameters=Parameters(**places), context=context or JavaMap())


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("$input.body", "{}"),
        ("[$input.path('$.a.b')]", "[]"),
        ("$input.json('$.a')", '""'),
    ],
)
def test_an_absent_body(template: str, text: str) -> None:
    assert rendered(template) == text


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("$.name", '"é\\"\\n"'),
        ("$['name']", '"é\\"\\n"'),
        ("name", '"é\\"\\n"'),
        ("$.list[1].x", "2"),
        ("$.list[9]", '""'),
        ("$.name.deeper", '""'),
        ("$.list", '[1,{"x":2}]'),
    ],
)
def test_json_of_a_path(path: str, text: str) -> None:
    body = '{"name": "é\\"\\n", "list": [1, {"x": 2}]}'
    assert rendered(f'$input.json("{path.replace("$", "$")}")', body) == text


def test_a_path_that_is_no_path() -> None:
    with pytest.raises(TemplateExecutionError, match="JSONPath"):
        rendered("$input.path('$..x[?(@)]')", '{"x": 1}')


def test_parameters_are_looked_up_in_path_then_query_then_header() -> None:
    places = {"path": {"a": "path"}, "querystring": {"a": "query", "b": "query"}, "header": {"b": "header", "c": "h"}}
    template = "$input.params('a') $input.params('b') $input.params('c') [$input.params('d')]"
    assert rendered(template, **places) == "path query h []"


def test_a_key_named_like_a_method_hides_none() -> None:
    template = "#set($h = $input.params().header)#foreach($n in $h.keySet())$n=$h.get($n);#end"
    assert rendered(template, header={"get": "1", "keySet": "2"}) == "get=1;keySet=2;"


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("$util.urlEncode('a b&c=~*/é')", "a+b%26c%3D%7E*%2F%C3%A9"),
        ("$util.urlDecode('a+b%26')", "a b&"),
        ("$util.base64Encode('hé')", "aMOp"),
        ("$util.base64Decode('aMOp')", "hé"),
        ('$util.escapeJavaScript("it\'s")', "it\\'s"),
        ('$util.parseJson(\'{"a": {"b": 5}}\').a.b', "5"),
        ("#set($s = 'aXbX')$s.replaceAll('(X)', '<$1>')", "a<X>b<X>"),
        ("#set($s = 'abc')$s.matches('ab') $s.matches('ab.')", "false true"),
        ("#set($s = ' a ')[$s.trim()]", "[a]"),
        ("#set($s = 'a')$s.compareTo('b') $s.indexOf('x') $s.isEmpty()", "-1 -1 false"),
        ("#set($n = 0)#set($l = $n.longValue())#set($x = $l.parseLong('9999999999999') / 1000)$x", "9999999999"),
    ],
)
def test_methods(call: str, text: str) -> None:
    assert rendered(call).replace("True", "true").replace("False", "false") == text


def test_what_a_template_sets_in_the_context_stays() -> None:
    context = JavaMap(responseOverride=JavaMap(header=JavaMap()))
    template = (
        "#set($context.responseOverride.status = 404)#set($context.responseOverride.header.X-Some-Header = 'v')text"
    )
    assert rendered(template, context=context) == "text"
    expected: dict[str, Any] = {"header": {"X-Some-Header": "v"}, "status": 404}
    assert context["responseOverride"] == expected
