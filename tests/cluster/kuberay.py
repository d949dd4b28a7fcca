"""The fields of KubeRay's RayJob that the manifests may use, and their types (ray.io/v1).

Written after the fields of KubeRay 1.7's custom resource definitions; a field that is not here is
taken for a slip. Pods are left to Kubernetes' own schemas.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
YES_NO: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
AMOUNTS: Schema = {"type": "object", "additionalProperties": {"type": ["integer", "string"]}}


def fields(required: tuple[str, ...] = (), **each: Schema) -> Schema:
    """An object of these fields and no others."""
    return {
        "type": "object",
        "properties": each,
        "required": list(required),
        "additionalProperties": False,
    }


def one_of(*values: str) -> Schema:
    """One of these words."""
    return {"enum": list(values)}


POD: Schema = {"type": "object", "required": ["spec"]}
RAY_CLUSTER = fields(
    ("headGroupSpec",),
    rayVersion=TEXT,
    authOptions=fields(mode=one_of("disabled", "token"), secretName=TEXT),
    enableInTreeAutoscaling=YES_NO,
    autoscalerOptions=fields(
        idleTimeoutSeconds=WHOLE,
        upscalingMode=one_of("Default", "Aggressive", "Conservative"),
        resources=fields(limits=AMOUNTS, requests=AMOUNTS),
        version=one_of("v1", "v2"),
    ),
    headGroupSpec=fields(("template",), serviceType=TEXT, rayStartParams=TEXTS, template=POD),
    workerGroupSpecs={
        "type": "array",
        "items": fields(
            ("groupName", "template"),
            groupName=TEXT,
            replicas=WHOLE,
            minReplicas=WHOLE,
            maxReplicas=WHOLE,
            rayStartParams=TEXTS,
            template=POD,
        ),
    },
)
RAY_JOB = fields(
    ("entrypoint", "rayClusterSpec"),
    entrypoint=TEXT,
    entrypointResources=TEXT,
    submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    backoffLimit=WHOLE,
    shutdownAfterJobFinishes=YES_NO,
    ttlSecondsAfterFinished=WHOLE,
    rayClusterSpec=RAY_CLUSTER,
)
SCHEMAS = {"RayCluster": RAY_CLUSTER, "RayJob": RAY_JOB}
