"""Print the keys below a prefix of the bucket, a line each."""

import os
import sys

import boto3

pages = boto3.client("s3").get_paginator("list_objects_v2")
for page in pages.paginate(Bucket=os.environ["MLOPS_BUCKET"], Prefix=sys.argv[1]):
    for item in page.get("Contents", []):
        print(item["Key"])
