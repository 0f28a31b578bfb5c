"""The points at which LocalStack 4.14.0 lets us in; entry points name them (plugin/*/entry_points.txt)."""

from __future__ import annotations

import logging
import os
import threading
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
from localstack.runtime import hooks
from localstack.services.apigateway import helpers
from localstack.services.apigateway.next_gen.execute_api.gateway_response import (
    build_gateway_response,
    get_gateway_response_or_default,
)
from localstack.services.apigateway.next_gen.execute_api.handlers.gateway_exception import (
    GatewayExceptionHandler,
)
from localstack.services.cloudformation.resource_provider import OperationStatus, ProgressEvent
from localstack.services.lambda_.event_source_mapping import esm_worker_factory
from localstack.services.lambda_.event_source_mapping.pollers.sqs_poller import SqsPoller
from localstack.services.lambda_.invocation.assignment import AssignmentService
from localstack.services.lambda_.invocation.execution_environment import ExecutionEnvironment
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin
from localstack.services.lambda_.invocation.runtime_executor import LambdaRuntimeException, RuntimeExecutor
from localstack.services.lambda_.resource_providers.lambda_alias import LambdaAliasProvider
from localstack.services.s3 import provider as s3_provider

from localcloud.executor.function_process import Function, FunctionProcess, Invocation, link_runtime
from localcloud.executor.gateway_responses import CONTENT_TYPE, EXTENSION, render_body, static_headers
from localcloud.executor.poller import collect_batch

LOG = logging.getLogger(__name__)

DEFAULT_CONCURRENCY = 5  # as many pollers as Lambda starts with where no MaximumConcurrency is set
RUNTIME_PACKAGES = (
    *("awslambdaric", "runtime_client.*", "simplejson", "snapshot_restore_py.py"),
    *("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six.py"),
)


class ProcessExecutorPlugin(RuntimeExecutorPlugin):
    """Chosen by `LAMBDA_RUNTIME_EXECUTOR=process`."""

    name = "process"

    def load(self, *_args: Any, **_kwargs: Any) -> type[RuntimeExecutor]:
        return ProcessExecutor


class ProcessExecutor(RuntimeExecutor):
    """LocalStack's view of a `FunctionProcess`."""

    def __init__(self, id: str, function_version: FunctionVersion) -> None:  # noqa: A002 (its signature)
        super().__init__(id, function_version)
        self._process: FunctionProcess | None = None

    def start(self, env_vars: dict[str, Any]) -> None:
        version = self.function_version
        config = version.config
        function = Function(
            name=version.id.function_name,
            version=version.id.qualifier,
            handler=config.handler,
            timeout=config.timeout,
            memory_mb=config.memory_size,
            json_logs=config.logging_config.get("LogFormat") == "JSON",
            task_root=config.code.get_unzipped_code_location(),
            layers=tuple(layer.code.get_unzipped_code_location() for layer in config.layers),
            runtime=state_folder() / "runtime",
        )
        log = state_folder() / "logs" / f"{function.name}.log"
        self._process = FunctionProcess(function, env_vars, log)
        self._process.start()

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        if self._process is None:
            raise LambdaRuntimeException(f"{self.id} was invoked before it was started")
        invocation = Invocation(
            request_id=payload["invoke-id"],
            function_arn=payload["invoked-function-arn"],
            trace_id=payload["trace-id"],
            payload=payload["payload"].encode(),
        )
        outcome = self._process.invoke(invocation)
        return InvocationResult(
            invocation.request_id, outcome.payload, is_error=outcome.failed, logs=outcome.logs
        )

    def get_address(self) -> str:
        return "127.0.0.1"

    def get_endpoint_from_executor(self) -> str:
        return "127.0.0.1"

    def get_runtime_endpoint(self) -> str:
        return ""  # ours is known to the process alone

    def get_logs(self) -> str:
        return ""  # every invocation carries its own

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        function_version.config.code.prepare_for_execution()
        for layer in function_version.config.layers:
            layer.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        """Nothing: another version may share the unzipped code."""


class ConcurrentSqsPoller(SqsPoller):
    """Polls without a pause and hands batches to as many invocations as `MaximumConcurrency` allows."""

    def limit(self, concurrency: int) -> None:
        """Set how many invocations may run at once; called once, before the first poll."""
        self._slots = threading.BoundedSemaphore(concurrency)
        self._workers = ThreadPoolExecutor(concurrency, thread_name_prefix="sqs-batch")

    def poll_events(self) -> None:
        self._slots.acquire()  # first: a message that is received is also worked on at once
        try:
            batch = collect_batch(self._receive, self.batch_size, self.maximum_batching_window)
        except BaseException:
            self._slots.release()
            raise
        if batch:
            self._workers.submit(self.handle_messages, batch).add_done_callback(self._finish)
        else:
            self._slots.release()

    def close(self) -> None:
        self._workers.shutdown(wait=False)

    def _receive(self, count: int, seconds: int) -> list[dict[str, Any]]:
        answer = self.source_client.receive_message(
            QueueUrl=self.queue_url,
            MaxNumberOfMessages=count,
            WaitTimeSeconds=seconds,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def _finish(self, batch: Future[None]) -> None:
        self._slots.release()
        error = batch.exception()
        if error is not None:  # its messages come back after the queue's visibility timeout, as on AWS
            LOG.warning("A batch from %s failed: %s", self.source_arn, getattr(error, "error", error))


class Environments(dict[str, Any]):
    """LocalStack walks through a version's environments while other threads add to them."""

    def values(self) -> Any:
        return list(super().values())


@hooks.on_infra_start()
def install_lambda_parts() -> None:
    """Put our parts in place before the Lambda service is loaded."""
    link_runtime(state_folder() / "runtime", Path(boto3.__file__).parent.parent, RUNTIME_PACKAGES)
    make_worker = esm_worker_factory.EsmWorkerFactory.get_esm_worker
    make_assignment = AssignmentService.__init__
    default_log_group = ExecutionEnvironment.get_log_group_name

    def get_esm_worker(factory: Any) -> Any:
        worker = make_worker(factory)
        if isinstance(worker.poller, ConcurrentSqsPoller):
            scaling = factory.esm_config.get("ScalingConfig") or {}
            worker.poller.limit(int(scaling.get("MaximumConcurrency") or DEFAULT_CONCURRENCY))
        return worker

    def init_assignment(service: Any) -> None:
        make_assignment(service)
        service.environments = defaultdict(Environments)

    def get_log_group_name(environment: Any) -> Any:
        chosen = environment.function_version.config.logging_config.get("LogGroup")
        return chosen or default_log_group(environment)

    esm_worker_factory.SqsPoller = ConcurrentSqsPoller
    esm_worker_factory.EsmWorkerFactory.get_esm_worker = get_esm_worker
    AssignmentService.__init__ = init_assignment
    ExecutionEnvironment.get_log_group_name = get_log_group_name


@hooks.on_infra_start()
def install_alias_updates() -> None:
    """Let an alias move on to a new version: LocalStack adds the new state before it removes the old one."""
    create_alias, delete_alias = LambdaAliasProvider.create, LambdaAliasProvider.delete

    def move(request: Any) -> Any:
        model = request.desired_state
        alias = request.aws_client_factory.lambda_.update_alias(
            FunctionName=model["FunctionName"], Name=model["Name"], FunctionVersion=model["FunctionVersion"]
        )
        model["Id"] = alias["AliasArn"]
        return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=model)

    def create(provider: Any, request: Any) -> Any:
        try:
            return create_alias(provider, request)
        except request.aws_client_factory.lambda_.exceptions.ResourceConflictException:
            return move(request)

    def update(_provider: Any, request: Any) -> Any:
        return move(request)

    def delete(provider: Any, request: Any) -> Any:
        model, functions = request.desired_state, request.aws_client_factory.lambda_
        try:
            present = functions.get_alias(FunctionName=model["FunctionName"], Name=model["Name"])
        except functions.exceptions.ResourceNotFoundException:
            return delete_alias(provider, request)
        if present["FunctionVersion"] != model["FunctionVersion"]:  # it has moved on: not ours to delete
            return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=model)
        return delete_alias(provider, request)

    LambdaAliasProvider.create = create
    LambdaAliasProvider.update = update
    LambdaAliasProvider.delete = delete


@hooks.on_infra_start()
def install_private_storage() -> None:
    """Keep objects with the cloud's other files: by default all LocalStacks of a machine share one folder."""
    s3_provider.DEFAULT_S3_TMP_DIR = str(state_folder() / "tmp" / "s3")


@hooks.on_infra_start()
def install_gateway_responses() -> None:
    """Let the API answer errors of its own as the template says."""
    import_specification = helpers.import_api_from_openapi_spec
    create_response = GatewayExceptionHandler.create_exception_response

    def import_api(rest_api: Any, context: Any, open_api_spec: Any, mode: Any) -> Any:
        answer = import_specification(rest_api, context, open_api_spec, mode)
        container = helpers.get_apigateway_store(context=context).rest_apis[rest_api.id]
        for kind, response in open_api_spec.get(EXTENSION, {}).items():
            status = response.get("statusCode")
            container.gateway_responses[kind] = build_gateway_response(
                kind,
                status_code=str(status) if status else None,
                response_parameters=response.get("responseParameters"),
                response_templates=response.get("responseTemplates"),
                default_response=False,
            )
        return answer

    def create_exception_response(handler: Any, exception: Any, context: Any) -> Any:
        answer = create_response(handler, exception, context)
        responses = context.deployment.rest_api.gateway_responses
        chosen = get_gateway_response_or_default(exception.type, responses)
        template = (chosen.get("responseTemplates") or {}).get(CONTENT_TYPE)
        if template:
            answer.set_data(render_body(template, context.context_variables))
        answer.headers.update(static_headers(chosen.get("responseParameters") or {}))
        return answer

    helpers.import_api_from_openapi_spec = import_api
    GatewayExceptionHandler.create_exception_response = create_exception_response


def state_folder() -> Path:
    """Where the local cloud keeps its files."""
    return Path(os.environ["LOCALCLOUD_STATE_DIR"])
