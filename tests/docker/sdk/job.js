// A typical job through dockerode: job.js IMAGE. Ends with 0 when every step gave what dockerd gives.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { PassThrough } = require('node:stream');
const Docker = require('dockerode');

const image = process.argv[2];
const docker = new Docker({ socketPath: process.env.DOCKER_HOST.replace('unix://', '') });

// All that a stream says.
async function text(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

// A stream of both outputs, taken apart.
async function outputs(stream) {
  const [out, err] = [new PassThrough(), new PassThrough()];
  docker.modem.demuxStream(stream, out, err);
  stream.on('end', () => { out.end(); err.end(); });
  return Promise.all([text(out), text(err)]);
}

async function exec(container, command) {
  const made = await container.exec({ Cmd: command, AttachStdout: true, AttachStderr: true });
  const said = await outputs(await made.start({}));
  return [(await made.inspect()).ExitCode, ...said];
}

async function pull() {
  const progress = await docker.pull(image);
  const lines = await new Promise((resolve, reject) =>
    docker.modem.followProgress(progress, (error, all) => (error ? reject(error) : resolve(all))));
  assert.match(lines.at(-1).status, /^Status: /);
}

async function lifeOfAContainer() {
  const events = await docker.getEvents({ filters: { label: ['job=node'] } });
  const actions = [];
  events.on('data', (lines) => {
    for (const line of lines.toString().trim().split('\n')) actions.push(JSON.parse(line).Action.split(':')[0]);
    if (actions.includes('destroy')) events.destroy();
  });
  const gone = once(events, 'close');

  const container = await docker.createContainer({
    Image: image, name: 'node', Cmd: ['sh', '-c', 'read word; echo out $word; echo err >&2; exec sleep 1000'],
    OpenStdin: true, Env: ['A=1'], Labels: { job: 'node' },
  });
  const input = await container.attach({ stream: true, stdin: true, hijack: true });
  await container.start();
  input.write('word\n');

  const log = await container.logs({ follow: true, stdout: true, stderr: true });
  const [out, err] = [new PassThrough(), new PassThrough()];
  docker.modem.demuxStream(log, out, err);
  assert.equal((await once(out, 'data'))[0].toString(), 'out word\n');
  log.destroy();
  input.end();

  assert.equal((await container.inspect()).State.Status, 'running');
  assert.deepEqual((await docker.listContainers({ filters: { label: ['job=node'] } })).map((one) => one.Names), [['/node']]);
  assert.deepEqual(await exec(container, ['sh', '-c', 'echo $A; echo e >&2; exit 3']), [3, '1\n', 'e\n']);
  assert.equal((await container.stats({ stream: false })).pids_stats.current, 1);
  assert.equal((await container.top()).Processes[0].at(-1), 'sleep 1000');

  const ended = container.wait();
  await container.kill();
  assert.equal((await ended).StatusCode, 137);
  await container.remove();
  await gone;
  const told = actions.filter((one) => ['create', 'start', 'die', 'destroy'].includes(one));
  assert.deepEqual(told, ['create', 'start', 'die', 'destroy']);
}

async function main() {
  await pull();
  await lifeOfAContainer();
  // What the library's own shortcut does: attach without leaving HTTP, start, wait.
  const [out, err] = [new PassThrough(), new PassThrough()];
  const said = Promise.all([text(out), text(err)]);
  const [result, container] = await docker.run(image, ['sh', '-c', 'echo hi; echo no >&2; exit 4'], [out, err], { Tty: false });
  out.end();
  err.end();
  assert.deepEqual([result.StatusCode, ...(await said)], [4, 'hi\n', 'no\n']);
  await container.remove();
  await assert.rejects(docker.getContainer('nosuch').inspect(), { statusCode: 404 });
  assert.deepEqual(await docker.listContainers({ all: true }), []);
  console.log('dockerode: done');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
