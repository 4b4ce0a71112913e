"""fp16 in the graph: what stays fp32, the retyping, the check against fp32."""
