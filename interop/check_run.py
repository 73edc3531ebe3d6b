"""Runs `pillarbox check` on a scenario and compares what it says with what is right."""

import json
import os
import subprocess

from check_scripts import Full, Server, address
from relay import binary

PASSWORD = "Kx7#hunter-Zebra"


def clean_environment(**more):
    keep = {key: value for key, value in os.environ.items() if not key.startswith("PILLARBOX") and key not in ("NO_COLOR", "CLICOLOR_FORCE")}
    return {**keep, "PILLARBOX_PASSWORD": PASSWORD, **more}


def check(config, *arguments, form="--json", **environment):
    """Exit code, standard output and standard error."""
    command = [binary(), "check", *map(str, arguments), "--config", config, *([form] if form else [])]
    done = subprocess.run([str(one) for one in command], capture_output=True, timeout=60, stdin=subprocess.DEVNULL, env=clean_environment(**environment))
    return done.returncode, done.stdout, done.stderr.decode("utf-8", "replace")


def play(case, config, ca):
    """Starts the servers of a scripted scenario, checks them, and gives exit code and output."""
    if not case.connect:
        return check(config, case.target, *case.args.split(), "--ca-file", ca, PILLARBOX_PASSWORD=case.password or PASSWORD)
    ip = address()
    servers = [Full(ip, port) if script is Full else Server(ip, port, script) for port, script in case.servers.items()]
    try:
        port = case.target.rpartition(":")[2]
        return check(config, case.target, *case.args.split(), "--connect-to", f"{ip}:{port}", "--ca-file", ca)
    finally:
        for server in servers:
            server.close()


def differences(case, code, out, err, validate=None):
    """What is not as it should be, as a list of texts."""
    try:
        report = json.loads(out)
    except ValueError:
        return [f"no JSON: exit {code}, {out[:200]!r}, {err[:300]}"], None
    wrong = [f"schema: {error}" for error in (validate(report) if validate else ())]
    want = lambda name, value, allowed: value in str(allowed).split("|") or wrong.append(f"{name} {value} instead of {allowed}")
    findings = report["findings"]
    said = lambda one: one.get("sign") or one["explanation"]["reason"]
    if PASSWORD in out.decode("utf-8", "replace"):
        wrong.append("the password is in the report")
    if "panicked" in err:
        wrong.append(f"panic: {err[-300:]}")
    extra = [said(one) for one in findings if one["severity"] == "warning" and said(one) not in case.warnings]
    extra = [one for one in extra if not one.startswith("credential_") or "credential" not in case.also]
    if extra:
        wrong.append(f"warnings that are wrong: {extra}")
    way = report.get("working")
    way = way and (way["port"], way["tls"])
    if case.works != way and (case.works or case.result == ""):
        wrong.append(f"working way {way} instead of {case.works}")
    if not case.result:
        if code != 0 or not report["healthy"] or report["result"] != "Success" or report["reason"] != "accepted":
            first = findings[0] if findings else {}
            wrong.append(f"not healthy: exit {code}, {report['result']} {report['reason']} at {report.get('failed_at')}: {first.get('explanation', {}).get('title')}")
        missing = [one for one in case.warnings if one not in map(said, findings)]
        if missing:
            wrong.append(f"missing warnings: {missing}")
        return wrong, report
    if code != 1:
        wrong.append(f"exit {code}")
    want("result", report["result"], case.result)
    want("reason", report["reason"], case.reason)
    want("stage", report.get("failed_at"), case.stage)
    first = findings[0] if findings else {"explanation": {"title": "", "meaning": "", "causes": [], "fixes": []}}
    if case.owner:
        want("owner", report.get("owner"), case.owner)
    if case.code:
        told = [(one.get("reply") or {}).get("code") for one in findings if one["severity"] == "problem"]
        told += [(stage.get("reply") or {}).get("code") for stage in report["stages"] if stage["outcome"] == "failed"]
        if case.code not in told:
            wrong.append(f"code {told} instead of {case.code}")
    if case.sign and first.get("sign") != case.sign:
        wrong.append(f"sign {first.get('sign')} instead of {case.sign}")
    words = first["explanation"]
    text = " ".join([words["title"], words["meaning"], *words["causes"], *(f"{fix['text']} {fix.get('run') or ''}" for fix in words["fixes"])])
    if case.fix and not any(word.lower() in text.lower() for word in case.fix.split("|")):
        wrong.append(f"no word of {case.fix!r} in: {words['title']} | {[fix['text'] for fix in words['fixes']]}")
    if not words["fixes"] or not words["causes"]:
        wrong.append(f"no fixes or causes in {words['rule']}")
    others = [said(one) for one in findings[1:] if one["severity"] == "problem" and said(one) not in case.also]
    others = [one for one in others if not one.startswith("credential_") or "credential" not in case.also]
    if others:
        wrong.append(f"also said: {others}")
    return wrong, report
