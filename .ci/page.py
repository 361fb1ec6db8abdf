#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the page of a proxy in headless Chromium. Usage: page.py URL FOLDER, in the network of the proxy.

The browser is driven by its debugging protocol over a pipe, so nothing but Chromium is needed.
"""

import base64
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from urllib.parse import urlsplit

WIDE, PHONE = (1280, 900), (390, 844)
EVIL = '<img src=x onerror="document.title=1">'


class Browser:
    """A tab of a headless browser, with everything that it complains about and asks for."""

    def __init__(self, profile):
        to_read, to_write = os.pipe(), os.pipe()
        command = 'exec chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run'
        command += f' --user-data-dir={profile} --remote-debugging-pipe 3<&{to_read[0]} 4>&{to_write[1]}'
        self.process = subprocess.Popen(
            ['bash', '-c', command], pass_fds=(to_read[0], to_write[1]),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_read[0])
        os.close(to_write[1])
        self.pipe = os.fdopen(to_read[1], 'wb', buffering=0)
        self.answers = os.fdopen(to_write[0], 'rb', buffering=0)
        self.rest, self.number, self.session = b'', 0, None
        self.complaints, self.requests, self.state, self.fails = [], [], None, False
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        self.session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        self.call('Emulation.setScrollbarsHidden', hidden=True)
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.call(f'{domain}.enable')

    def send(self, method, **params):
        self.number += 1
        message = {'id': self.number, 'method': method, 'params': params}
        if self.session:
            message['sessionId'] = self.session
        self.pipe.write(json.dumps(message).encode() + b'\0')
        return self.number

    def next(self):
        while b'\0' not in self.rest:
            read = self.answers.read(1 << 16)
            if not read:
                raise SystemExit('the browser has ended')
            self.rest += read
        message, self.rest = self.rest.split(b'\0', 1)
        return json.loads(message)

    def call(self, method, **params):
        number = self.send(method, **params)
        while True:
            message = self.next()
            if message.get('id') == number:
                if 'error' in message:
                    raise SystemExit(f'{method}: {message["error"]}')
                return message['result']
            self.take(message)

    def take(self, message):
        params = message.get('params', {})
        match message.get('method'):
            case 'Runtime.exceptionThrown':
                self.complaints.append(json.dumps(params['exceptionDetails'])[:400])
            case 'Runtime.consoleAPICalled' if params['type'] in ('error', 'warning', 'assert'):
                self.complaints.append(json.dumps(params['args'])[:400])
            case 'Log.entryAdded' if params['entry']['level'] in ('error', 'warning'):
                self.complaints.append(json.dumps(params['entry'])[:400])
            case 'Network.requestWillBeSent':
                self.requests.append(params['request']['url'])
            case 'Fetch.requestPaused':
                self.answer(params['requestId'])

    def answer(self, request):
        if self.fails:
            self.send('Fetch.failRequest', requestId=request, errorReason='ConnectionRefused')
        else:
            body = base64.b64encode(json.dumps(self.state).encode()).decode()
            headers = [{'name': 'content-type', 'value': 'application/json'}]
            self.send('Fetch.fulfillRequest', requestId=request, responseCode=200, responseHeaders=headers, body=body)

    def evaluate(self, expression):
        result = self.call('Runtime.evaluate', expression=expression, returnByValue=True)
        if 'exceptionDetails' in result:
            raise SystemExit(f'{expression}: {result["exceptionDetails"]}')
        return result['result'].get('value')

    def soon(self, expression, seconds):
        """The value of the expression as soon as it is true; false at the end of the time."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(expression)) and time.monotonic() < end:
            time.sleep(0.05)
        return value

    def wait(self, what, expression, seconds=60):
        if not self.soon(expression, seconds):
            text = self.evaluate('document.body.innerText')
            raise SystemExit(f'{what}: not within {seconds} s\n{text[:2000]}')
        print(f'ok  {what}', flush=True)

    def show(self, size, dark=False):
        self.call('Emulation.setDeviceMetricsOverride', width=size[0], height=size[1], deviceScaleFactor=1,
                  mobile=size == PHONE)
        features = [{'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}]
        self.call('Emulation.setEmulatedMedia', features=features)
        time.sleep(0.3)

    def screenshot(self, path):
        shot = self.call('Page.captureScreenshot', captureBeyondViewport=True)
        with open(path, 'wb') as file:
            file.write(base64.b64decode(shot['data']))

    def shots(self, folder, name):
        """Takes screenshots in both schemes and both widths; nothing may be wider than the screen."""
        for size, width in ((WIDE, 'wide'), (PHONE, 'phone')):
            for dark in (False, True):
                self.show(size, dark)
                if self.evaluate('document.documentElement.scrollWidth > document.documentElement.clientWidth'):
                    raise SystemExit(f'{name}: wider than a {width} screen')
                self.screenshot(f'{folder}/{name}-{width}-{"dark" if dark else "light"}.png')
        self.show(WIDE)
        print(f'ok  {name}: within both widths', flush=True)


def with_many(state, count):
    """The state with more load balancers, of which some are not as they should be, and one has an evil name."""
    state = copy.deepcopy(state)
    balancers = state['mesh']['load_balancers']
    first = balancers[0]
    for number in range(len(balancers), count):
        one = copy.deepcopy(first)
        one['name'] = f'stateless-lb-{number}'
        one['links'][0]['name'] = f'nsm{number:03}-{number * 7919 % 65536:04x}'
        for hop in one['next_hops']:
            hop['address'] = hop['address'].rsplit('.', 1)[0] + f'.{number}' if '.' in hop['address'] else f'fd00::{number:x}'
        balancers.append(one)
    balancers[10]['next_hops'][0].update(installed=False, withheld='it does not answer', answers=False)
    balancers[10]['reach'] = 'silent'
    balancers[20]['links'][0]['state'] = 'down'
    balancers[30].update(state='requesting', links=[], next_hops=[], error='no answer of nsmgr before the deadline')
    balancers[40].update(state='requesting', links=[], next_hops=[], error=None)
    balancers[50]['name'] = EVIL
    for number in range(len(state['targets']), 12):
        one = copy.deepcopy(state['targets'][0])
        one['connection'] = f'target-{number}-a3b7c9-0'
        state['targets'].append(one)
    objects = [state['kernel']['observed'], state['kernel']['desired']]
    for one in objects:
        one['ports'] = [link['name'] for peer in balancers for link in peer['links']]
        one['next_hops'] = [hop['address'] for peer in balancers for hop in peer['next_hops']]
    return state


def remove_a_port(browser, url):
    """Removes a port until the page shows that. The page may miss it: the proxy heals the connection at once."""
    red = """(() => {
        const peer = document.querySelector("#lbs .peer.bad"), problem = document.querySelector("#problems li.bad");
        return peer && problem && peer.title + problem.textContent;
    })()"""
    what = "a load balancer without its port is red"
    removed = []
    for _ in range(10):
        with urllib.request.urlopen(url + 'state') as answer:
            links = json.load(answer)['mesh']['load_balancers'][0]['links']
        if links and subprocess.run(['ip', 'link', 'del', links[0]['name']]).returncode == 0:
            removed.append(links[0]['name'])
        if why := browser.soon(red, 6):
            if not any(name in why for name in removed):
                raise SystemExit(f'the reason does not name {removed}: {why}')
            print('ok ', what, flush=True)
            return
    raise SystemExit(f'never: {what}')


def check(browser, url, folder):
    browser.call('Page.navigate', url=url)
    browser.wait('everything is as desired', 'document.querySelector("#problems.ok") !== null')
    browser.wait('the proxy is ready', 'document.getElementById("ready").textContent === "ready"')
    with urllib.request.urlopen(url + 'state') as answer:
        state = json.load(answer)
    count = len(state['mesh']['load_balancers'])
    browser.wait(f'{count} load balancers', f'document.querySelectorAll("#lbs .peer.ok").length === {count}')
    browser.wait(f'{len(state["targets"])} targets',
                 f'document.querySelectorAll("#targets .peer.ok").length === {len(state["targets"])}')
    browser.shots(folder, 'well')

    remove_a_port(browser, url)
    browser.screenshot(f'{folder}/port-removed.png')
    browser.wait('it is well again', 'document.querySelector("#problems.ok") !== null')

    browser.state = with_many(state, 64)
    browser.call('Fetch.enable', patterns=[{'urlPattern': '*/state'}])
    browser.wait('64 load balancers', 'document.querySelectorAll("#lbs .peer").length === 64')
    browser.wait('those that differ are red', 'document.querySelectorAll("#lbs .peer.bad").length === 3')
    browser.wait('one that is degraded is grey', 'document.querySelectorAll("#lbs .peer.grey").length === 1')
    browser.wait('a name is text', f'document.body.innerText.includes({json.dumps(EVIL)})')
    browser.shots(folder, 'many')

    elsewhere = [one for one in browser.requests if urlsplit(one)[:2] != urlsplit(url)[:2] and not one.startswith('data:')]
    if elsewhere or browser.complaints:
        raise SystemExit('\n'.join(['requests elsewhere or complaints:', *elsewhere, *browser.complaints]))
    print(f'ok  {len(browser.requests)} requests, none to anywhere else, and no complaint', flush=True)

    browser.fails = True
    browser.wait('a proxy without an answer is shown as that', 'document.getElementById("ready").textContent === "no answer"')
    browser.screenshot(f'{folder}/no-answer.png')


def main():
    url, folder = sys.argv[1:]
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(profile)
        try:
            check(browser, url, folder)
        finally:
            browser.process.terminate()
            browser.process.wait(10)


main()
