"""host.json, local.settings.json, the environment and the command line: what is read, and which of them wins."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from perdure.host.configuration import read_host_json, standard_json
from perdure.host.local_settings import LocalHost, apply_local_settings
from perdure.host.problems import SettingsProblem
from perdure.host.settings import AppSettings, CommandLine, Settings, default_hub_name, read_settings


def write(folder: Path, name: str, content: Any) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8")


def durable(**keys: Any) -> dict[str, Any]:
    return {"version": "2.0", "extensions": {"durableTask": keys}}


def settings(app: Path, environment: dict[str, str] | None = None, **typed: Any) -> Settings:
    return read_settings(app, CommandLine(**typed), environment if environment is not None else {})


# --- comments and trailing commas ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1} // end', {"a": 1}),
        ('{// first\r\n"a": 1}', {"a": 1}),
        ('/* over\n lines */ {"a": /* here */ 1}', {"a": 1}),
        ('{"url": "http://x/*y*/"}', {"url": "http://x/*y*/"}),
        (r'{"a": "\"// no comment", "b": "\\"} // one', {"a": '"// no comment', "b": "\\"}),
        ('{"a": [1, 2,], "b": {"c": 3 , // last\n}\n,}', {"a": [1, 2], "b": {"c": 3}}),
        ('{"a,}": ",]"}', {"a,}": ",]"}),
    ],
)
def test_comments_and_trailing_commas_are_left_out_and_texts_kept(text: str, expected: Any) -> None:
    assert json.loads(standard_json(text)) == expected


@pytest.mark.parametrize("text", ["[,]", "{,}", "[1,,]", '{"a":,}', "[1],"])
def test_a_comma_that_follows_no_element_is_not_left_out(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(standard_json(text))


def test_what_follows_a_comment_keeps_its_line_and_column() -> None:
    text = '/* a\nb */ {"x": 1 // c\n}'
    stripped = standard_json(text)
    assert len(stripped) == len(text)
    assert stripped.index("{") == text.index("{")
    assert stripped.count("\n") == 2


# --- host.json -------------------------------------------------------------------------------------------------------


def test_an_app_without_host_json_has_the_defaults(tmp_path: Path) -> None:
    read = settings(tmp_path)
    assert (read.host, read.port, read.route_prefix, read.store) == ("127.0.0.1", 7071, "api", None)
    assert (read.synchronous, read.wait, read.insecure, read.grace_seconds) == ("full", False, False, 30.0)
    assert read.functions is None
    assert list(tmp_path.iterdir()) == []


def test_keys_are_found_without_regard_to_case(tmp_path: Path) -> None:
    write(tmp_path, "host.json", {"Version": "2.0", "Extensions": {"DURABLETASK": {"HubName": "Orders"}}})
    assert settings(tmp_path).hub == "Orders"


def test_unknown_keys_are_ignored(tmp_path: Path) -> None:
    write(tmp_path, "host.json", {**durable(partitionCount=7, hubname="Orders"), "nonsense": {"a": [1, {"b": None}]}})
    assert settings(tmp_path).hub == "Orders"


@pytest.mark.parametrize("version", [{}, {"version": "1.0"}, {"version": 2.0}, {"version": None}])
def test_a_version_other_than_the_text_2_0_is_refused(tmp_path: Path, version: dict[str, Any]) -> None:
    write(tmp_path, "host.json", {"extensions": {}, **version})
    with pytest.raises(SettingsProblem, match=r'host\.json.*"2\.0"') as caught:
        settings(tmp_path)
    assert str(tmp_path / "host.json") in str(caught.value)


def test_a_host_json_that_is_not_json_is_told_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, "host.json", '{\n  "version" // the version\n  "2.0"\n}')
    with pytest.raises(SettingsProblem) as caught:
        settings(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'host.json'}:3: ")
    assert "a comma after a last element" in caught.value.advice


@pytest.mark.parametrize("content", [b"[]", b'{"version": "\xff"}'])
def test_a_host_json_that_is_no_object_in_utf_8_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "host.json").write_bytes(content)
    with pytest.raises(SettingsProblem, match="object in UTF-8") as caught:
        settings(tmp_path)
    assert "comma" not in str(caught.value)


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "host.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(durable(hubName="Orders")).encode())
    assert settings(tmp_path).hub == "Orders"


def test_concurrency_route_prefix_and_functions_are_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        "host.json",
        {
            "version": "2.0",
            "functions": ["Start", "Work"],
            "extensions": {
                "http": {"routePrefix": "/v1/"},
                "durableTask": {"maxConcurrentActivityFunctions": 3, "maxConcurrentOrchestratorFunctions": "4"},
            },
        },
    )
    read = settings(tmp_path)
    assert (read.max_activities, read.route_prefix) == (3, "v1")
    assert read.functions == {"start", "work"}


def test_an_empty_route_prefix_means_none(tmp_path: Path) -> None:
    write(tmp_path, "host.json", {"version": "2.0", "extensions": {"http": {"routePrefix": ""}}})
    assert settings(tmp_path).route_prefix == ""


@pytest.mark.parametrize("key", ["maxConcurrentActivityFunctions", "maxConcurrentOrchestratorFunctions"])
@pytest.mark.parametrize("value", [0, -1, "many", 2.5])
def test_a_concurrency_that_is_no_positive_integer_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    write(tmp_path, "host.json", durable(**{key: value}))
    with pytest.raises(SettingsProblem, match=f"M{key[1:]} must be a positive integer value"):
        settings(tmp_path)


def test_an_environment_variable_overrides_host_json(tmp_path: Path) -> None:
    write(tmp_path, "host.json", {**durable(hubName="Orders"), "functions": ["a", "b"]})
    environment = {
        "AzureFunctionsJobHost__extensions__durableTask__hubName": "Other",
        "AzureFunctionsJobHost__functions__1": "c",
    }
    host_json = read_host_json(tmp_path, environment)
    assert host_json.text("extensions:durableTask:hubName") == "Other"
    assert host_json.texts("functions") == ["a", "c"]


@pytest.mark.parametrize("kind", ["mssql", "Netherite"])
def test_a_storage_type_of_azure_is_named_once_and_not_used(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "host.json", durable(storageProvider={"type": kind}))
    settings(tmp_path)
    assert [kind in message for message in caplog.messages] == [True]


# --- the hub's name --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("shop", "shop"),
        ("my-shop_2", "myshop2"),
        ("2shop", "t2shop"),
        ("ab", "abHub"),
        ("é-ü", "DefaultTaskHub"),
        ("x" * 60, "x" * 45),
    ],
)
def test_a_folder_gives_a_valid_name_of_a_hub(folder: str, name: str) -> None:
    assert default_hub_name(folder) == name


@pytest.mark.parametrize("name", ["ab", "1shop", "my-shop", "x" * 46, ""])
def test_a_bad_name_of_a_hub_is_refused_with_the_documented_text(tmp_path: Path, name: str) -> None:
    write(tmp_path, "host.json", durable(hubName=name))
    with pytest.raises(SettingsProblem) as caught:
        settings(tmp_path)
    assert (
        f"Task hub name '{name}' should contain only alphanumeric characters, start with a letter, and have length "
        "between 3 and 45."
    ) in str(caught.value)


def test_an_app_for_another_storage_provider_keeps_its_name_of_a_hub(tmp_path: Path) -> None:
    write(tmp_path, "host.json", durable(hubName="my-shop", storageProvider={"type": "azureManaged"}))
    assert settings(tmp_path).hub == "my-shop"


def test_a_name_of_a_hub_is_resolved_from_app_settings(tmp_path: Path) -> None:
    write(tmp_path, "host.json", durable(hubName="%HUB%"))
    assert settings(tmp_path, {"hub": "Orders"}).hub == "Orders"


def test_an_unknown_name_in_percent_signs_is_refused_with_the_documented_text(tmp_path: Path) -> None:
    write(tmp_path, "host.json", durable(hubName="%HUB%"))
    with pytest.raises(SettingsProblem, match=r"'%HUB%' does not resolve to a value\."):
        settings(tmp_path)


# --- local.settings.json ---------------------------------------------------------------------------------------------


def local(app: Path, content: Any, environment: dict[str, str] | None = None) -> tuple[dict[str, str], LocalHost]:
    write(app, "local.settings.json", content)
    result = dict(environment or {})
    return result, apply_local_settings(app, result)


def test_local_values_become_environment_variables(tmp_path: Path) -> None:
    values = {"A": "text", "B": "", "C": 7, "D": True}
    environment, _ = local(tmp_path, {"IsEncrypted": False, "Values": values})
    assert environment == {"A": "text", "B": "", "C": "7", "D": "true"}


def test_the_existing_environment_wins_over_local_values(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    environment, _ = local(tmp_path, {"IsEncrypted": False, "Values": {"A": "local"}}, {"A": "real"})
    assert environment == {"A": "real"}
    assert caplog.messages == [
        "Skipping 'A' from local settings as it's already defined in current environment variables."
    ]


def test_a_null_value_is_skipped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    environment, _ = local(tmp_path, {"IsEncrypted": False, "Values": {"A": None, "B": "b"}})
    assert environment == {"B": "b"}
    assert ["'A'" in message for message in caplog.messages] == [True]


@pytest.mark.parametrize("content", [{"Values": {"A": "x"}}, {"IsEncrypted": True, "Values": {"A": "x"}}])
def test_values_that_are_not_said_to_be_plain_are_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(SettingsProblem, match="Failed to decrypt settings"):
        local(tmp_path, content)


def test_a_file_without_values_has_nothing_to_decrypt(tmp_path: Path) -> None:
    environment, host = local(tmp_path, {"Host": {"LocalHttpPort": 8080}})
    assert environment == {}
    assert host == LocalHost(port="8080")


@pytest.mark.parametrize("text", ["{", "[]", '{"Values": 3, "IsEncrypted": false}'])
def test_local_settings_that_cannot_be_read_are_left_out_with_a_warning(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    environment, host = local(tmp_path, text)
    assert (environment, host) == ({}, LocalHost())
    assert len(caplog.records) == 1


def test_local_settings_may_have_comments(tmp_path: Path) -> None:
    environment, _ = local(tmp_path, '{"IsEncrypted": false, /* mine */ "Values": {"A": "x"}}')
    assert environment == {"A": "x"}


# --- which source wins -----------------------------------------------------------------------------------------------


def test_the_command_line_wins_over_everything(tmp_path: Path) -> None:
    write(tmp_path, "local.settings.json", {"Host": {"LocalHttpPort": 3, "LocalHttpAddress": "127.0.0.3"}})
    environment = {"PERDURE_PORT": "2", "PERDURE_HOST": "127.0.0.2", "PERDURE_STORE": "memory://", "PERDURE_WAIT": "1"}
    environment |= {"PERDURE_GRACE": "2", "PERDURE_SYNCHRONOUS": "off", "PERDURE_INSECURE": "true"}
    typed = settings(
        tmp_path,
        environment,
        port=1,
        host="127.0.0.1",
        store="sqlite:///a.db",
        wait=False,
        insecure=False,
        grace_seconds=1.0,
        synchronous="full",
    )
    assert (typed.port, typed.host, typed.store) == (1, "127.0.0.1", "sqlite:///a.db")
    assert (typed.wait, typed.insecure, typed.grace_seconds, typed.synchronous) == (False, False, 1.0, "full")


def test_perdure_variables_win_over_the_settings_of_the_app(tmp_path: Path) -> None:
    write(tmp_path, "local.settings.json", {"Host": {"LocalHttpPort": 3, "LocalHttpAddress": "127.0.0.3"}})
    write(tmp_path, "host.json", durable(hubName="FromFile"))
    environment = {"PERDURE_PORT": "2", "PERDURE_HOST": "127.0.0.2", "PERDURE_HUB_NAME": "FromPerdure"}
    environment |= {"PERDURE_GRACE": "0.5", "PERDURE_SYNCHRONOUS": "normal", "PERDURE_WAIT": "yes"}
    environment |= {"AzureFunctionsJobHost__extensions__durableTask__hubName": "FromSetting"}
    read = settings(tmp_path, environment)
    assert (read.port, read.host, read.hub) == (2, "127.0.0.2", "FromPerdure")
    assert (read.grace_seconds, read.synchronous, read.wait) == (0.5, "normal", True)


def test_app_settings_win_over_host_json(tmp_path: Path) -> None:
    override = {"AzureFunctionsJobHost__extensions__durableTask__hubName": "FromSetting"}
    write(tmp_path, "local.settings.json", {"IsEncrypted": False, "Values": override, "Host": {"LocalHttpPort": 3}})
    write(tmp_path, "host.json", durable(hubName="FromFile"))
    read = settings(tmp_path)
    assert (read.hub, read.port) == ("FromSetting", 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PERDURE_PORT", "http"),
        ("PERDURE_PORT", "70000"),
        ("PERDURE_GRACE", "-1"),
        ("PERDURE_GRACE", "inf"),
        ("PERDURE_SYNCHRONOUS", "extra"),
        ("PERDURE_WAIT", "perhaps"),
        ("PYTHON_THREADPOOL_THREAD_COUNT", "0"),
        ("PYTHON_SCRIPT_FILE_NAME", "../main.py"),
        ("PYTHON_SCRIPT_FILE_NAME", "main"),
    ],
)
def test_a_variable_that_cannot_be_read_is_refused_by_name(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SettingsProblem, match=name):
        settings(tmp_path, {name: value})


def test_the_worker_settings_of_python_are_honoured(tmp_path: Path) -> None:
    read = settings(tmp_path, {"PYTHON_THREADPOOL_THREAD_COUNT": "7", "PYTHON_SCRIPT_FILE_NAME": "main.py"})
    assert (read.threads, read.script) == (7, "main.py")


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsProblem, match="is not a folder"):
        settings(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("value", "disabled"), [("true", True), ("True", True), ("1", True), ("0", False), ("", False)]
)
def test_a_function_is_disabled_by_its_app_setting(value: str, disabled: bool) -> None:
    assert AppSettings({"AzureWebJobs.Work.Disabled": value}).is_disabled("work") is disabled


def test_names_in_percent_signs_are_replaced_wherever_they_stand() -> None:
    app_settings = AppSettings({"A": "1", "B__C": "2"})
    assert app_settings.resolve("x-%a%-%B:C%") == "x-1-2"
    with pytest.raises(ValueError, match=r"^'%D%' does not resolve to a value\.$"):
        app_settings.resolve("%A%%D%")
